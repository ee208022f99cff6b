/* exp, log, tanh and sigmoid of vectors, in explicit fused multiply-adds. Errors in units in the last place, measured by
   tests/unit/test_kernel_functions.py: exp 1.1, log 1, tanh 1.6, sigmoid 2.5. NaN gives NaN. */
#ifndef MLPQ_FUNCTIONS_H
#define MLPQ_FUNCTIONS_H

#include "polynomials.h"
#include "simd.h"

#ifdef MLPQ_DOUBLE
#define MANTISSA 52
#define ONE_BITS 0x3ff0000000000000u
#define ROUNDER 0x1.8p52 /* adding it rounds to a whole number, which is then in the low bits */
#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW 0x1.a39ef35793c76p-33
#define LOWEST -708.0
#define HIGHEST 700.0
#define SCALING 0x1p512 /* of exp(x) above HIGHEST, whose exponent may be that of infinity */
#else
#define MANTISSA 23
#define ONE_BITS 0x3f800000u
#define ROUNDER 0x1.8p23f
#define LN2_HIGH 0x1.62e4p-1f /* few digits: its multiples by an exponent are exact */
#define LN2_LOW 0x1.7f7d1cp-20f
#define LOWEST -87.0f
#define HIGHEST 80.0f
#define SCALING 0x1p64f
#endif
#define LOG2E ((real)0x1.71547652b82fep0)

INLINE vec polynomial(vec x, const real *coefficients, int count) {
  vec y = spread(coefficients[0]);
  for (int i = 1; i < count; i++) y = fused(y, x, spread(coefficients[i]));
  return y;
}

/* exp(x) = 2^n y, with y from √½ to √2. Adding the result to y's bits multiplies it by 2^n. */
INLINE bits exponent_of(vec x, vec *fraction) {
#ifdef MLPQ_DOUBLE
  static const real p[] = EXP64;
#else
  static const real p[] = EXP;
#endif
  vec shifted = fused(x, spread(LOG2E), spread(ROUNDER));
  vec n = shifted - spread(ROUNDER);
  vec r = fused(n, spread(-LN2_HIGH), x);
  r = fused(n, spread(-LN2_LOW), r);
  vec y = polynomial(r, p, sizeof p / sizeof p[0]);
  *fraction = fused(y, r * r, r) + spread(1);
  return (bits)shifted << MANTISSA;
}

/* exp(x) for x up to HIGHEST. 0 below LOWEST, where the result would soon be subnormal. */
INLINE vec exponential(vec x) {
  vec y;
  bits exponent = exponent_of(x, &y);
  return choose(less(x, spread(LOWEST)), spread(0), (vec)((bits)y + exponent));
}

/* exp(x) for any x; infinite where the result is too large. */
INLINE vec exponential_of_any(vec x) {
  const vec one = spread(1), most = spread(HIGHEST + 20);
  vec factor = choose(less(spread(HIGHEST), x), spread(SCALING), one), y;
  bits exponent = exponent_of(choose(less(most, x), most, x), &y) - ((bits)factor - (bits)one);
  return choose(less(x, spread(LOWEST)), spread(0), (vec)((bits)y + exponent) * factor);
}

/* log(x) for normal x > 0. */
INLINE vec logarithm(vec x) {
  const bits one = (bits)spread(1);
  /* x = 2^e m with m from √½ to √2: the exponent is counted from √½. */
  const bits offset = one - (bits)spread((real)0.70710678118654752);
  bits shifted = (bits)x + offset;
  bits exponent = shifted >> MANTISSA;
  vec m = (vec)((bits)x - ((exponent << MANTISSA) - one));
  /* The exponent as a number: put into the low bits of ROUNDER. */
  vec e = (vec)((bits)spread(ROUNDER) + exponent) - spread(ROUNDER + (real)(ONE_BITS >> MANTISSA));
#ifdef MLPQ_DOUBLE
  static const real p[] = LOG64;
  vec s = (m - spread(1)) / (m + spread(1)), z = s * s;
  vec y = fused(polynomial(z, p, sizeof p / sizeof p[0]), z * s, s + s);
  return fused(e, spread(LN2_HIGH), fused(e, spread(LN2_LOW), y));
#else
  static const real p[] = LOG;
  vec f = m - spread(1), z = f * f;
  vec y = polynomial(f, p, sizeof p / sizeof p[0]) * (z * f);
  y = fused(e, spread(LN2_LOW), y);
  y = fused(spread(-0.5f), z, y);
  return fused(e, spread(LN2_HIGH), f + y);
#endif
}

/* log(x) for any x. */
INLINE vec logarithm_of_any(vec x) {
  const vec infinity = spread((real)__builtin_inf()), zero = spread(0);
  mask is_subnormal = less(x, spread(NORMAL));
  vec y = logarithm(choose(is_subnormal, x * spread((real)0x1p24), x));
  y = choose(is_subnormal, y - spread((real)16.635532333438686), y);
  y = choose(less(zero, x), choose(less(x, infinity), y, x), choose(same(x, zero), zero - infinity, x));
  return choose(less(x, zero), spread((real)__builtin_nan("")), y);
}

/* 1 / (1 + exp(-x)); from exp(-|x|), which can't overflow. */
INLINE vec sigmoid(vec x) {
  vec e = exponential((vec)((bits)x | SIGN));
  return choose(less(x, spread(0)), e, spread(1)) / (spread(1) + e);
}

INLINE vec hyperbolic_tangent(vec x) {
#ifdef MLPQ_DOUBLE
  static const real p[] = TANH64;
#else
  static const real p[] = TANH;
#endif
  vec a = absolute(x), z = x * x;
  vec small = fused(polynomial(z, p, sizeof p / sizeof p[0]), z * x, x);
  vec e = exponential((vec)((bits)(a + a) | SIGN));
  vec large = with_sign(spread(1) - (e + e) / (spread(1) + e), x);
  return choose(less(a, spread((real)0.625)), small, large);
}

#endif
