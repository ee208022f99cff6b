/* exp, log, pow, sin and cos of double-precision numbers, in explicit fused multiply-adds: for what is computed once a
   batch or once a job. Errors are below 1e-15 of the result for the arguments that are used. */
#ifndef MLPQ_SCALAR_H
#define MLPQ_SCALAR_H

#include <stdint.h>
#include <string.h>

#include "mlpq_kernel.h"
#include "polynomials.h"

#define POLYNOMIAL(x, table) polynomial64(x, table, (int)(sizeof table / sizeof table[0]))

static double polynomial64(double x, const double *coefficients, int count) {
  double y = coefficients[0];
  for (int i = 1; i < count; i++) y = __builtin_fma(y, x, coefficients[i]);
  return y;
}

static const double ROUNDER64 = 0x1.8p52, LN2_HIGH64 = 0x1.62e42fee00000p-1, LN2_LOW64 = 0x1.a39ef35793c76p-33;

static UNUSED double exp64(double x) {
  static const double p[] = EXP64;
  if (!(x > -708.0)) return x == x ? 0.0 : x;
  if (x > 709.0) return __builtin_inf();
  double n = __builtin_fma(x, 0x1.71547652b82fep0, ROUNDER64) - ROUNDER64;
  double r = __builtin_fma(n, -LN2_LOW64, __builtin_fma(n, -LN2_HIGH64, x));
  double y = __builtin_fma(POLYNOMIAL(r, p), r * r, r) + 1.0;
  /* 2^n as a product of two: n may be 1024. */
  int64_t half = (int64_t)n / 2, rest = (int64_t)n - half;
  uint64_t bits[2] = {(uint64_t)(1023 + half) << 52, (uint64_t)(1023 + rest) << 52};
  double powers[2];
  memcpy(powers, bits, sizeof powers);
  return y * powers[0] * powers[1];
}

/* x > 0 and normal. */
static UNUSED double log64(double x) {
  static const double p[] = LOG64;
  uint64_t bits, half = 0x3fe6a09e667f3bcdu, one = 0x3ff0000000000000u;
  memcpy(&bits, &x, sizeof bits);
  uint64_t exponent = (bits + (one - half)) >> 52;
  bits = bits - (exponent << 52) + one;
  double m, e = (double)((int64_t)exponent - 1023);
  memcpy(&m, &bits, sizeof m);
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double y = __builtin_fma(POLYNOMIAL(z, p), z * s, s + s);
  return __builtin_fma(e, LN2_HIGH64, __builtin_fma(e, LN2_LOW64, y));
}

/* x^y for x > 0. */
static UNUSED double pow64(double x, double y) { return exp64(y * log64(x)); }

/* The same for any argument, as the C library's but for subnormal ones, which count as 0. */
static UNUSED double log64_of_any(double x) {
  if (!(x > 0.0)) return x == 0.0 ? -__builtin_inf() : __builtin_nan("");
  if (x < 0x1p-1022) return -__builtin_inf();
  return x > 0x1.fffffffffffffp1023 ? x : log64(x);
}

static UNUSED double tanh64(double x) {
  static const double p[] = TANH64;
  double a = __builtin_fabs(x), z = x * x;
  if (a < 0.625) return __builtin_fma(POLYNOMIAL(z, p), z * x, x);
  double e = exp64(-(a + a)), y = 1.0 - (e + e) / (1.0 + e);
  return x < 0 ? -y : y;
}

/* x^n for n >= 0. */
static double power64(double x, int n) {
  double y = 1.0;
  for (; n; n >>= 1, x *= x)
    if (n & 1) y *= x;
  return y;
}

static UNUSED double pow64_of_any(double x, double y) {
  double a = __builtin_fabs(x), b = __builtin_fabs(y), r;
  if (y == 0.0 || x == 1.0) return 1.0;
  if (x != x || y != y) return x + y;
  int is_whole = b >= 0x1p62 || (double)(int64_t)y == y, is_odd = b < 0x1p62 && is_whole && ((int64_t)y & 1);
  if (a == 0.0 || a > 0x1.fffffffffffffp1023)
    r = (a == 0.0) == (y > 0) ? 0.0 : __builtin_inf();
  else if (x < 0 && !is_whole)
    return __builtin_nan("");
  else if (a == 1.0)
    r = 1.0;
  else if (is_whole && b <= 64.0) /* exact where the result is */
    r = y > 0 ? power64(a, (int)b) : 1.0 / power64(a, (int)b);
  else
    r = exp64(y * log64_of_any(a));
  return x < 0 && is_odd ? -r : r;
}

/* The sine and cosine of x from 0 to 7. */
static UNUSED void sincos64(double x, double *sine, double *cosine) {
  static const double p[] = SIN64, q[] = COS64;
  double n = __builtin_fma(x, 0x1.45f306dc9c883p-1, ROUNDER64) - ROUNDER64; /* quarter turns */
  double r = __builtin_fma(n, -0x1.921fb54442d18p0, x);
  r = __builtin_fma(n, -0x1.1a62633145c07p-54, r);
  double z = r * r;
  double s = __builtin_fma(POLYNOMIAL(z, p), z * r, r);
  double c = __builtin_fma(POLYNOMIAL(z, q), z * z, __builtin_fma(-0.5, z, 1.0));
  int64_t quarter = (int64_t)n & 3;
  *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
  *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}

#endif
