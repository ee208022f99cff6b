/* The build for any CPU: vectors of 16 bytes, which are NEON's on ARM. */
#include "kernel_body.h"

const mlpq_build mlpq_plain = BUILD("plain");
