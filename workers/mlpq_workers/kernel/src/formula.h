/* An optimizer's formula: a program of operations on registers, which is data; see mlpq.spec.formula_program.

   Each vector operation runs over a block of parameters whose registers stay in the nearest cache, so that choosing the
   operation costs little beside it. It rounds once in every element, and nothing is fused across operations. */
#ifndef MLPQ_FORMULA_H
#define MLPQ_FORMULA_H

#include "functions.h"
#include "memory.h"
#include "scalar.h"
#include "update_rules.h"

#define BLOCK 256 /* parameters; a multiple of every PANEL */

enum { SCALAR_STEP, SCALAR_RATE, SCALAR_NORM_G, SCALAR_NORM_P };
enum { VECTOR_P, VECTOR_G, VECTOR_FIRST_STATE };

typedef struct {
  mlpq_program program;
  mlpq_operation *operations;
  double *values;    /* of the scalar registers */
  real *spreads;     /* [scalars][LANES]: their values, rounded */
  real *temporaries; /* [vectors][BLOCK] */
  real **registers;  /* where the vector registers of this block are */
} formula;

/* NaN where one of both is, as torch's minimum and maximum. */
INLINE vec least_of(vec a, vec b) { return choose(less(a, b), a, choose(same(a, a), b, a)); }
INLINE vec most_of(vec a, vec b) { return choose(less(b, a), a, choose(same(a, a), b, a)); }
INLINE vec truth(mask m) { return choose(m, spread(1), spread(0)); }

INLINE vec operated(int code, vec x, vec y, vec z) {
  switch (code) {
    case MLPQ_OP_NEG: return (vec)((bits)x ^ SIGN);
    case MLPQ_OP_ABS: return absolute(x);
    case MLPQ_OP_SIGN: return sign_of(x);
    case MLPQ_OP_SQRT: return root_of(x);
    case MLPQ_OP_EXP: return exponential_of_any(x);
    case MLPQ_OP_LOG: return logarithm_of_any(x);
    case MLPQ_OP_TANH: return hyperbolic_tangent(x);
    case MLPQ_OP_ADD: return x + y;
    case MLPQ_OP_SUB: return x - y;
    case MLPQ_OP_MUL: return x * y;
    case MLPQ_OP_DIV: return x / y;
    case MLPQ_OP_MIN: return least_of(x, y);
    case MLPQ_OP_MAX: return most_of(x, y);
    case MLPQ_OP_LT: return truth(less(x, y));
    case MLPQ_OP_LE: return choose(same(x, y), spread(1), truth(less(x, y)));
    case MLPQ_OP_GT: return truth(less(y, x));
    case MLPQ_OP_GE: return choose(same(x, y), spread(1), truth(less(y, x)));
    case MLPQ_OP_EQ: return truth(same(x, y));
    case MLPQ_OP_NE: return choose(same(x, y), spread(0), spread(1));
    case MLPQ_OP_WHERE: return choose(same(x, spread(0)), z, y);
    default: return x; /* MLPQ_OP_COPY */
  }
}

/* An operand: a vector register's block, or a scalar, of which there is one vector. */
typedef struct {
  const real *at;
  size_t step;
} operand;

INLINE operand operand_of(const formula *f, int32_t number) {
  if (number >= 0) return (operand){f->registers[number], 1};
  return (operand){f->spreads + (size_t)(-1 - number) * LANES, 0};
}

/* One operation on `count` elements. `code` is a constant, so that each gets loops of its own. */
INLINE void operate(int code, const formula *f, const mlpq_operation *o, size_t count) {
  real *to = f->registers[o->dst];
  operand a = operand_of(f, o->a), b = operand_of(f, o->b);
  if (code == MLPQ_OP_WHERE) {
    operand c = operand_of(f, o->c);
    for (size_t i = 0; i < count; i += LANES)
      store(to + i, operated(code, load(a.at + i * a.step), load(b.at + i * b.step), load(c.at + i * c.step)));
  } else if (code < MLPQ_OP_ADD) {
    for (size_t i = 0; i < count; i += LANES) store(to + i, operated(code, load(a.at + i * a.step), spread(0), spread(0)));
  } else if (!b.step) {
    const vec y = load(b.at);
    for (size_t i = 0; i < count; i += LANES) store(to + i, operated(code, load(a.at + i * a.step), y, y));
  } else if (!a.step) {
    const vec x = load(a.at);
    for (size_t i = 0; i < count; i += LANES) store(to + i, operated(code, x, load(b.at + i), x));
  } else {
    for (size_t i = 0; i < count; i += LANES) store(to + i, operated(code, load(a.at + i), load(b.at + i), spread(0)));
  }
}

#define OPERATE(code) \
  case code: \
    operate(code, f, o, count); \
    break;

/* Subnormal numbers become 0, with which many CPUs compute 100 times slower: an average decays to them. */
static void flush(real *x, size_t count) {
  for (size_t i = 0; i < count; i += LANES) store(x + i, flushed(load(x + i), NORMAL));
}

/* The vector part of the program on a block of parameters: the registers 0 … states + 1 are set. */
static __attribute__((noinline)) void run_block(const formula *f, size_t count) {
  const mlpq_operation *o = f->operations + f->program.scalar_operations, *end = o + f->program.vector_operations;
  for (; o < end; o++) switch (o->code) {
      OPERATE(MLPQ_OP_COPY)
      OPERATE(MLPQ_OP_NEG)
      OPERATE(MLPQ_OP_ABS)
      OPERATE(MLPQ_OP_SIGN)
      OPERATE(MLPQ_OP_SQRT)
      OPERATE(MLPQ_OP_EXP)
      OPERATE(MLPQ_OP_LOG)
      OPERATE(MLPQ_OP_TANH)
      OPERATE(MLPQ_OP_ADD)
      OPERATE(MLPQ_OP_SUB)
      OPERATE(MLPQ_OP_MUL)
      OPERATE(MLPQ_OP_DIV)
      OPERATE(MLPQ_OP_MIN)
      OPERATE(MLPQ_OP_MAX)
      OPERATE(MLPQ_OP_LT)
      OPERATE(MLPQ_OP_LE)
      OPERATE(MLPQ_OP_GT)
      OPERATE(MLPQ_OP_GE)
      OPERATE(MLPQ_OP_EQ)
      OPERATE(MLPQ_OP_NE)
      OPERATE(MLPQ_OP_WHERE)
    }
  flush(f->registers[VECTOR_P], count);
  for (int64_t i = 0; i < f->program.states; i++) flush(f->registers[VECTOR_FIRST_STATE + i], count);
}

static double operated64(int code, double x, double y, double z) {
  switch (code) {
    case MLPQ_OP_NEG: return -x;
    case MLPQ_OP_ABS: return __builtin_fabs(x);
    case MLPQ_OP_SIGN: return x > 0 ? 1.0 : x < 0 ? -1.0 : x;
    case MLPQ_OP_SQRT: return __builtin_sqrt(x);
    case MLPQ_OP_EXP: return exp64(x);
    case MLPQ_OP_LOG: return log64_of_any(x);
    case MLPQ_OP_TANH: return tanh64(x);
    case MLPQ_OP_ADD: return x + y;
    case MLPQ_OP_SUB: return x - y;
    case MLPQ_OP_MUL: return x * y;
    case MLPQ_OP_DIV: return x / y;
    case MLPQ_OP_MIN: return x != x || x < y ? x : y;
    case MLPQ_OP_MAX: return x != x || x > y ? x : y;
    case MLPQ_OP_POW: return pow64_of_any(x, y);
    case MLPQ_OP_LT: return x < y;
    case MLPQ_OP_LE: return x <= y;
    case MLPQ_OP_GT: return x > y;
    case MLPQ_OP_GE: return x >= y;
    case MLPQ_OP_EQ: return x == y;
    case MLPQ_OP_NE: return x != y;
    case MLPQ_OP_WHERE: return x != 0 ? y : z;
    default: return x; /* MLPQ_OP_COPY */
  }
}

/* Begin a step: the scalar part of the program, once its first four registers are set. */
static void run_scalars(formula *f) {
  double *v = f->values;
  for (const mlpq_operation *o = f->operations; o < f->operations + f->program.scalar_operations; o++)
    v[o->dst] = operated64(o->code, v[o->a], v[o->b], v[o->c]);
  for (size_t i = 0; i < (size_t)f->program.scalars; i++) store(f->spreads + i * LANES, spread((real)v[i]));
}

static void free_formula(formula *f) {
  if (!f) return;
  free(f->operations);
  free(f->values);
  free(f->spreads);
  free(f->temporaries);
  free(f->registers);
  free(f);
}

/* A copy of the program with its registers; NULL where there is no memory. */
static formula *formula_of(const mlpq_program *p) {
  formula *f = zeros(1, sizeof *f);
  if (!f) return NULL;
  f->program = *p;
  size_t operations = (size_t)(p->scalar_operations + p->vector_operations);
  f->operations = zeros(operations, sizeof *f->operations);
  f->values = zeros((size_t)p->scalars, sizeof *f->values);
  f->spreads = zeros((size_t)p->scalars * LANES, sizeof(real));
  f->temporaries = zeros((size_t)p->vectors * BLOCK, sizeof(real));
  f->registers = zeros((size_t)p->vectors, sizeof *f->registers);
  if (!f->operations || !f->values || !f->spreads || !f->temporaries || !f->registers) {
    free_formula(f);
    return NULL;
  }
  memcpy(f->operations, p->operations, operations * sizeof *f->operations);
  memcpy(f->values, p->values, (size_t)p->scalars * sizeof *f->values);
  for (size_t i = 0; i < (size_t)p->vectors; i++) f->registers[i] = f->temporaries + i * BLOCK;
  return f;
}

#endif
