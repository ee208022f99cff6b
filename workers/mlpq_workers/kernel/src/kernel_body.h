/* Everything of one build, included by one file for each instruction set; see build_avx512.c. */
#include "floating_point.h"
#include "train.h"

INLINE vec applied(int64_t function, vec x) {
  switch (function) {
    case 0: return exponential(x);
    case 1: return logarithm(x);
    case 2: return sigmoid(x);
    case 3: return hyperbolic_tangent(x);
    case 4: return exponential_of_any(x);
    default: return logarithm_of_any(x);
  }
}

/* For tests: y = f(x) for n numbers, a multiple of LANES; functions are numbered as in `applied`. */
static void apply(int64_t function, const real *x, real *y, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES) store(y + i, applied(function, load(x + i)));
}

#define BUILD(name) {name, create, destroy, states, put, take, progress, train, evaluate, apply}
