/* Everything of one build, included by one file for each instruction set; see build_avx512.c. */
#include "floating_point.h"
#include "train.h"

/* For tests: y = f(x) for n numbers, a multiple of LANES; 0 exp, 1 log, 2 sigmoid, 3 tanh. */
static void apply(int64_t function, const real *x, real *y, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES) {
    vec v = load(x + i);
    store(y + i, function == 0 ? exponential(v) : function == 1 ? logarithm(v) : function == 2 ? sigmoid(v) : hyperbolic_tangent(v));
  }
}

#define BUILD(name) {name, create, destroy, states, put, take, progress, train, evaluate, apply}
