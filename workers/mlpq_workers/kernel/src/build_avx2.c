/* The build for x86-64 CPUs with AVX2 and FMA. */
#if defined(__x86_64__) && !defined(MLPQ_DOUBLE)
#include <immintrin.h>

#define TARGET_AVX2
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "kernel_body.h"

const mlpq_build mlpq_avx2 = BUILD("avx2");
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
