/* The build for x86-64 CPUs with AVX-512. */
#if defined(__x86_64__) && !defined(MLPQ_DOUBLE)
#include <immintrin.h>

#define TARGET_AVX512
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,fma,avx2"))), apply_to = function)
#else
#pragma GCC target("avx512f,fma,avx2")
#endif
#include "kernel_body.h"

const mlpq_build mlpq_avx512 = BUILD("avx512");
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
