/* Vectors: one type and a few operations, each of which rounds as IEEE 754 says, in every lane and on every target.

   A lane never meets another lane, so the number of lanes doesn't show in any result. There is no minimum and no
   maximum: instruction sets differ in what they return for NaN and signed zeros. */
#ifndef MLPQ_SIMD_H
#define MLPQ_SIMD_H

#include "mlpq_kernel.h"

#define INLINE static inline __attribute__((always_inline, unused))

#if defined(TARGET_AVX512)
#define LANES 16
#define TILE 14 /* rows of a tile of products; with two vectors each, 28 of 32 registers */
#define ADAM_TILE 8 /* which leaves registers for the steps in between */
typedef __m512 vec;
typedef __mmask16 mask;
typedef uint32_t bits __attribute__((vector_size(64)));
INLINE vec spread(real x) { return _mm512_set1_ps(x); }
INLINE vec fused(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec root_of(vec a) { return _mm512_sqrt_ps(a); }
INLINE mask less(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE vec choose(mask m, vec yes, vec no) { return _mm512_mask_blend_ps(m, no, yes); }
INLINE vec from_bytes(const uint8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#elif defined(TARGET_AVX2)
#define LANES 8
#define TILE 6 /* 12 of 16 registers */
#define ADAM_TILE 6
typedef __m256 vec;
typedef __m256 mask;
typedef uint32_t bits __attribute__((vector_size(32)));
INLINE vec spread(real x) { return _mm256_set1_ps(x); }
INLINE vec fused(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec root_of(vec a) { return _mm256_sqrt_ps(a); }
INLINE mask less(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
INLINE vec choose(mask m, vec yes, vec no) { return _mm256_blendv_ps(no, yes, m); }
INLINE vec from_bytes(const uint8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#else
#define LANES 4
#ifdef MLPQ_DOUBLE
typedef double vec __attribute__((vector_size(32)));
typedef uint64_t bits __attribute__((vector_size(32)));
typedef int64_t mask __attribute__((vector_size(32)));
#define FMA __builtin_fma
#define SQRT __builtin_sqrt
#else
typedef float vec __attribute__((vector_size(16)));
typedef uint32_t bits __attribute__((vector_size(16)));
typedef int32_t mask __attribute__((vector_size(16)));
#define FMA __builtin_fmaf
#define SQRT __builtin_sqrtf
#endif
INLINE vec spread(real x) { return (vec){x, x, x, x}; }
INLINE mask less(vec a, vec b) { return (mask)(a < b); }
INLINE vec choose(mask m, vec yes, vec no) { return (vec)((m & (mask)yes) | (~m & (mask)no)); }
INLINE vec from_bytes(const uint8_t *p) { return (vec){p[0], p[1], p[2], p[3]}; }
#if defined(__aarch64__) && !defined(MLPQ_DOUBLE)
#include <arm_neon.h>
#define TILE 12
#define ADAM_TILE 12
INLINE vec fused(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vec root_of(vec a) { return (vec)vsqrtq_f32((float32x4_t)a); }
#else
#define TILE 4
#define ADAM_TILE 4
/* The C library's fmaf and sqrtf, or the instructions: both are correctly rounded. */
INLINE vec fused(vec a, vec b, vec c) {
  return (vec){FMA(a[0], b[0], c[0]), FMA(a[1], b[1], c[1]), FMA(a[2], b[2], c[2]), FMA(a[3], b[3], c[3])};
}
INLINE vec root_of(vec a) { return (vec){SQRT(a[0]), SQRT(a[1]), SQRT(a[2]), SQRT(a[3])}; }
#endif
#endif

typedef vec loaded __attribute__((may_alias));
/* Addresses are multiples of a vector's size. */
INLINE vec load(const real *p) { return *(const loaded *)p; }
INLINE void store(real *p, vec x) { *(loaded *)p = x; }

#define LINE 64           /* bytes */
#define PANEL (2 * LANES) /* outputs of a panel of weights, see network.h */
#define SIGN ((bits)spread((real)-0.0))

INLINE vec absolute(vec x) { return (vec)((bits)x & ~SIGN); }
INLINE vec with_sign(vec x, vec sign) { return (vec)((bits)x | ((bits)sign & SIGN)); } /* x must not be negative */

/* 0 where |x| is below `least`; NaN stays. With subnormal numbers many CPUs compute 100 times slower. Not the hardware's
   flush-to-zero: x86 and ARM define it differently. */
INLINE vec flushed(vec x, real least) { return choose(less(absolute(x), spread(least)), spread(0), x); }
#define NORMAL ((real)0x1p-126)     /* the smallest normal float */
#define DERIVATIVE ((real)0x1p-100) /* of derivatives, so that their products with activations are normal */

/* Lanes of a and b in turn: the first halves of both, and the second halves. */
#if LANES == 16
#define FIRST_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SECOND_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define FIRST_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define SECOND_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FIRST_HALVES 0, 4, 1, 5
#define SECOND_HALVES 2, 6, 3, 7
#endif
#if defined(__clang__)
#define IN_TURN(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define IN_TURN(a, b, ...) __builtin_shuffle(a, b, (bits){__VA_ARGS__})
#endif

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#endif
