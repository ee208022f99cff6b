/* The draws of a job: initial weights, orders of rows. Equal to those of torch 2.13 on an x86-64 CPU with AVX2, whose
   way of computing each is stated here; computed by our own arithmetic, so that they are the same everywhere. */
#include "random.h"

#include "floating_point.h"
#include "scalar.h"

void mlpq_seed(mlpq_generator *g, uint64_t seed) {
  memset(g, 0, sizeof *g);
  g->seed = seed;
  g->left = 1;
  g->seeded = 1;
  g->state[0] = (uint32_t)seed;
  for (uint32_t i = 1; i < 624; i++) {
    uint32_t last = (uint32_t)g->state[i - 1];
    g->state[i] = (uint32_t)(1812433253u * (last ^ last >> 30) + i);
  }
}

/* Let `count` integers pass. */
void mlpq_skip(mlpq_generator *g, int64_t count) {
  for (int64_t i = 0; i < count; i++) draw32(g);
}

/* torch.randperm(n), for n below 2^32 / 20. */
void mlpq_permutation(mlpq_generator *g, int64_t n, int64_t *order) {
  for (int64_t i = 0; i < n; i++) order[i] = i;
  for (int64_t i = 0; i < n - 1; i++) {
    int64_t j = i + (int64_t)(draw32(g) % (uint64_t)(n - i)), kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
}

/* Tensor.uniform_(low, high) of float32. */
void mlpq_uniform(mlpq_generator *g, float low, float high, int64_t n, float *x) {
  uint64_t before = control_get();
  control_set(MLPQ_DEFAULT_CONTROL);
  for (int64_t i = 0; i < n; i++) x[i] = __builtin_fmaf(draw_float(g), high - low, low);
  control_set(before);
}

/* The logarithm of x from 2^-24 to 1 in single precision, by the method of the Cephes library (logf), as torch's AVX2
   code computes it: each product that is added is fused. */
static float cephes_log(float x) {
  static const float p[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                            -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  float e = (float)((int32_t)(bits >> 23) - 126);
  bits = (bits & 0x007fffffu) | 0x3f000000u;
  memcpy(&x, &bits, sizeof x);
  if (x < 0.707106781186547524f) {
    e -= 1.0f;
    x = (x - 1.0f) + x;
  } else {
    x -= 1.0f;
  }
  float z = x * x, y = p[0];
  for (int i = 1; i < 9; i++) y = __builtin_fmaf(y, x, p[i]);
  y *= x;
  y = __builtin_fmaf(y, z, e * -2.12194440e-4f);
  y = __builtin_fmaf(-z, 0.5f, y);
  return __builtin_fmaf(e, 0.693359375f, x + y);
}

/* The sine and cosine of x from 0 to 2π in single precision, by the method of Cephes (sinf, cosf), as above. */
static void cephes_sincos(float x, float *sine, float *cosine) {
  int32_t octant = ((int32_t)(x * 1.27323954473516f) + 1) & ~1;
  float n = (float)octant;
  x = __builtin_fmaf(n, -0.78515625f, x);
  x = __builtin_fmaf(n, -2.4187564849853515625e-4f, x);
  x = __builtin_fmaf(n, -3.77489497744594108e-8f, x);
  float z = x * x;
  float c = __builtin_fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
  c = __builtin_fmaf(c, z, 4.166664568298827e-2f) * z;
  c = __builtin_fmaf(c, z, -(z * 0.5f)) + 1.0f;
  float s = __builtin_fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
  s = __builtin_fmaf(s, z, -1.6666654611e-1f) * z;
  s = __builtin_fmaf(s, x, x);
  int is_swapped = octant & 2;
  *sine = is_swapped ? c : s;
  *cosine = is_swapped ? s : c;
  if (octant & 4) *sine = -*sine;
  if ((octant - 2) & 4) return;
  *cosine = -*cosine;
}

/* 16 uniform numbers to 16 normal ones, by Box and Muller: the first eight give radii, the others angles. */
static void to_normal(float *x, float mean, float sd) {
  for (int i = 0; i < 8; i++) {
    float radius = __builtin_sqrtf(-2.0f * cephes_log(1.0f - x[i])), sine, cosine;
    cephes_sincos((float)6.283185307179586 * x[i + 8], &sine, &cosine);
    x[i] = __builtin_fmaf(radius * cosine, sd, mean);
    x[i + 8] = __builtin_fmaf(radius * sine, sd, mean);
  }
}

/* One normal number in double precision: every other one is kept from the call before. */
static double normal64(mlpq_generator *g) {
  if (g->normal_is_valid) {
    double kept = g->normal_y;
    g->normal_is_valid = 0;
    g->normal_y = 0.0;
    return kept;
  }
  double u1 = draw_double(g), u2 = draw_double(g), sine, cosine;
  double radius = __builtin_sqrt(-2.0 * log64(1.0 - u2));
  sincos64(2.0 * 3.141592653589793 * u1, &sine, &cosine);
  g->normal_y = radius * sine;
  g->normal_is_valid = 1;
  return radius * cosine;
}

/* Tensor.normal_(mean, sd) of float32, contiguous. */
static void normal(mlpq_generator *g, double mean, double sd, int64_t n, float *x) {
  if (n < 16) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)__builtin_fma(normal64(g), sd, mean);
    return;
  }
  for (int64_t i = 0; i < n; i++) x[i] = draw_float(g);
  for (int64_t i = 0; i + 16 <= n; i += 16) to_normal(x + i, (float)mean, (float)sd);
  if (n % 16) { /* the last 16 are drawn again */
    for (int64_t i = n - 16; i < n; i++) x[i] = draw_float(g);
    to_normal(x + n - 16, (float)mean, (float)sd);
  }
}

/* torch.nn.init.trunc_normal_(mean 0, sd, -limit, limit): all are drawn again until none that is still needed lies
   outside. `again` has room for n. */
void mlpq_truncated_normal(mlpq_generator *g, double sd, float limit, int64_t n, float *x, float *again) {
  uint64_t before = control_get();
  control_set(MLPQ_DEFAULT_CONTROL);
  normal(g, 0.0, sd, n, x);
  for (;;) {
    int64_t outside = 0;
    for (int64_t i = 0; i < n; i++) outside += x[i] < -limit || x[i] > limit;
    if (!outside) break;
    normal(g, 0.0, sd, n, again);
    for (int64_t i = 0; i < n; i++)
      if (x[i] < -limit || x[i] > limit) x[i] = again[i];
  }
  control_set(before);
}
