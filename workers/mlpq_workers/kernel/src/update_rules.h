/* The rules of update.h on vectors. */
#ifndef MLPQ_UPDATE_RULES_H
#define MLPQ_UPDATE_RULES_H

#include "update.h"

/* A parameter and what its optimizer keeps about it. */
typedef struct {
  vec w, s0, s1, s2;
} element;

INLINE vec sign_of(vec x) { return choose(less(spread(0), x), spread(1), choose(less(x, spread(0)), spread(-1), x)); }
INLINE vec larger(vec a, vec b) { return choose(less(a, b), b, a); }
/* Averages decay forever for a pixel that is seldom not 0, down to subnormal numbers, with which many CPUs compute 100
   times slower. TINY keeps them from there, and costs nothing; no step of a weight can show it. */
#define TINY ((real)0x1p-120)
INLINE vec averaged(vec average, vec x, vec weight, vec keep) {
  return fused(weight, x, fused(keep, average, spread(TINY)));
}
INLINE vec averaged_square(vec average, vec x, vec weight, vec keep) {
  return fused(weight * x, x, fused(keep, average, spread(TINY)));
}
INLINE vec minus(vec w, real factor, vec x) { return fused(spread(-factor), x, w); }

INLINE element by_averages(element e, vec g, const step *s, enum rule rule) {
  vec weight = spread(s->c[1]), keep = spread(s->c[2]), eps = spread(s->c[3]);
  e.s0 = averaged(e.s0, g, spread(s->c[0]), spread(s->c[6]));
  if (rule == RULE_ADAMAX) {
    e.s1 = larger(keep * e.s1, absolute(g) + eps);
    e.w = minus(e.w, s->lr, e.s0 / e.s1);
    return e;
  }
  e.s1 = averaged_square(e.s1, g, weight, keep);
  if (rule == RULE_RADAM_UNRECTIFIED) {
    e.w = minus(e.w, s->lr, e.s0);
    return e;
  }
  if (rule == RULE_RADAM) {
    e.w = minus(e.w, s->lr, e.s0 / (root_of(e.s1) + eps));
    return e;
  }
  vec square = e.s1;
  if (rule == RULE_AMSGRAD) square = e.s2 = larger(e.s2, e.s1);
  vec root = fused(root_of(square), spread(s->c[4]), eps);
  if (rule == RULE_NADAM)
    e.w = e.w - fused(spread(s->lr), g, spread(s->c[5]) * e.s0) / root;
  else
    e.w = minus(e.w, s->lr, e.s0 / root);
  return e;
}

INLINE element by_rmsprop(element e, vec g, const step *s, int is_centered, int has_momentum) {
  vec weight = spread(s->c[1]), square;
  square = e.s0 = averaged_square(e.s0, g, weight, spread(s->c[2]));
  if (is_centered) {
    e.s1 = averaged(e.s1, g, weight, spread(s->c[2]));
    /* A variance; not below 0 by rounding, where torch's is NaN. */
    square = fused(spread(0) - e.s1, e.s1, square);
    square = choose(less(square, spread(0)), spread(0), square);
  }
  vec change = g / (root_of(square) + spread(s->c[3]));
  if (has_momentum) {
    vec *velocity = is_centered ? &e.s2 : &e.s1;
    change = *velocity = averaged(*velocity, change, spread(1), spread(s->c[4]));
  }
  e.w = minus(e.w, s->lr, change);
  return e;
}

INLINE element by_rprop(element e, vec g, const step *s) {
  vec agreement = g * e.s0, zero = spread(0);
  mask is_reversed = less(agreement, zero);
  vec factor = choose(is_reversed, spread(s->c[0]), choose(less(zero, agreement), spread(s->c[1]), spread(1)));
  vec size = e.s1 * factor, least = spread(s->c[2]), most = spread(s->c[3]);
  size = choose(less(size, least), least, size);
  e.s1 = choose(less(most, size), most, size);
  e.s0 = choose(is_reversed, zero, g);
  e.w = e.w - sign_of(e.s0) * e.s1;
  return e;
}

INLINE element by_others(element e, vec g, const step *s, enum rule rule) {
  if (rule == RULE_DESCENT) {
    e.w = minus(e.w, s->lr, g);
  } else if (rule == RULE_MOMENTUM || rule == RULE_NESTEROV) {
    vec momentum = spread(s->c[0]);
    e.s0 = averaged(e.s0, g, spread(s->c[1]), momentum);
    e.w = minus(e.w, s->lr, rule == RULE_NESTEROV ? fused(momentum, e.s0, g) : e.s0);
  } else if (rule == RULE_ADAGRAD) {
    e.s0 = fused(g, g, e.s0 + spread(TINY));
    e.w = minus(e.w, s->lr, g / (root_of(e.s0) + spread(s->c[3])));
  } else { /* Adadelta */
    vec weight = spread(s->c[1]), keep = spread(s->c[2]), eps = spread(s->c[3]);
    e.s0 = averaged_square(e.s0, g, weight, keep);
    vec change = root_of(e.s1 + eps) / root_of(e.s0 + eps) * g;
    e.s1 = averaged_square(e.s1, change, weight, keep);
    e.w = minus(e.w, s->lr, change);
  }
  return e;
}

INLINE element stepped(element e, vec g, const step *s, enum rule rule) {
  switch (rule) {
    case RULE_ADAM:
    case RULE_AMSGRAD:
    case RULE_ADAMAX:
    case RULE_NADAM:
    case RULE_RADAM:
    case RULE_RADAM_UNRECTIFIED: return by_averages(e, g, s, rule);
    case RULE_RMSPROP: return by_rmsprop(e, g, s, 0, 0);
    case RULE_RMSPROP_MOMENTUM: return by_rmsprop(e, g, s, 0, 1);
    case RULE_RMSPROP_CENTERED: return by_rmsprop(e, g, s, 1, 0);
    case RULE_RMSPROP_CENTERED_MOMENTUM: return by_rmsprop(e, g, s, 1, 1);
    case RULE_RPROP: return by_rprop(e, g, s);
    default: return by_others(e, g, s, rule);
  }
}

/* A run of `count` parameters, a multiple of LANES, at w and in the states; their gradient is g. */
typedef struct {
  real *w;
  real *states[MLPQ_MAX_STATES];
  const real *g;
  size_t count;
} run;

/* One step of the LANES parameters of the run from number i on. */
INLINE void update_one(const run *r, size_t i, const step *s, enum rule rule, int states) {
  element e = {load(r->w + i), spread(0), spread(0), spread(0)};
  vec g = load(r->g + i);
  if (states > 0) e.s0 = load(r->states[0] + i);
  if (states > 1) e.s1 = load(r->states[1] + i);
  if (states > 2) e.s2 = load(r->states[2] + i);
  if (s->has_l1) g = fused(spread(s->l1), sign_of(e.w), g);
  if (s->has_decay) g = fused(spread(s->decay), e.w, g);
  if (s->has_shrink) e.w = flushed(e.w * spread(s->shrink), NORMAL);
  e = stepped(e, g, s, rule);
  if (s->has_decay) e.w = flushed(e.w, NORMAL);
  store(r->w + i, e.w);
  if (states > 0) store(r->states[0] + i, e.s0);
  if (states > 1) store(r->states[1] + i, e.s1);
  if (states > 2) store(r->states[2] + i, e.s2);
}

/* Adam's steps, as update_one takes them, of vectors that follow each other. A step has three parts, since a root and a
   division take long: its next part comes when the next vector begins. */
typedef struct {
  real *w, *s0, *s1;
  size_t begun; /* elements */
  vec average, root, quotient;
} adam_steps;

INLINE void end_adam_step(const adam_steps *a, size_t i, const step *s) {
  vec w = load(a->w + i);
  if (s->has_shrink) w = flushed(w * spread(s->shrink), NORMAL);
  w = minus(w, s->lr, a->quotient);
  if (s->has_decay) w = flushed(w, NORMAL);
  store(a->w + i, w);
}

INLINE void begin_adam_step(adam_steps *a, const real *gradient, const step *s) {
  size_t i = a->begun;
  if (i > LANES) end_adam_step(a, i - 2 * LANES, s);
  if (i) a->quotient = a->average / fused(a->root, spread(s->c[4]), spread(s->c[3]));
  vec g = load(gradient);
  if (s->has_l1) g = fused(spread(s->l1), sign_of(load(a->w + i)), g);
  if (s->has_decay) g = fused(spread(s->decay), load(a->w + i), g);
  a->average = averaged(load(a->s0 + i), g, spread(s->c[0]), spread(s->c[6]));
  vec square = averaged_square(load(a->s1 + i), g, spread(s->c[1]), spread(s->c[2]));
  a->root = root_of(square);
  store(a->s0 + i, a->average);
  store(a->s1 + i, square);
  a->begun += LANES;
}

INLINE void end_adam_steps(adam_steps *a, const step *s) {
  if (a->begun > LANES) end_adam_step(a, a->begun - 2 * LANES, s);
  a->quotient = a->average / fused(a->root, spread(s->c[4]), spread(s->c[3]));
  end_adam_step(a, a->begun - LANES, s);
}

INLINE void update_run(const run *given, const step *given_step, enum rule rule, int states) {
  const step s = *given_step; /* copies, which no store can change */
  const run r = *given;
  for (size_t i = 0; i < r.count; i += LANES) update_one(&r, i, &s, rule, states);
}

#define UPDATE(rule, states) \
  case rule: \
    update_run(r, s, rule, states); \
    break;

static __attribute__((noinline)) void update(const run *r, const step *s) {
  switch (s->rule) {
    UPDATE(RULE_DESCENT, 0)
    UPDATE(RULE_MOMENTUM, 1)
    UPDATE(RULE_NESTEROV, 1)
    UPDATE(RULE_ADAM, 2)
    UPDATE(RULE_AMSGRAD, 3)
    UPDATE(RULE_ADADELTA, 2)
    UPDATE(RULE_ADAGRAD, 1)
    UPDATE(RULE_ADAMAX, 2)
    UPDATE(RULE_NADAM, 2)
    UPDATE(RULE_RADAM, 2)
    UPDATE(RULE_RADAM_UNRECTIFIED, 2)
    UPDATE(RULE_RMSPROP, 1)
    UPDATE(RULE_RMSPROP_MOMENTUM, 2)
    UPDATE(RULE_RMSPROP_CENTERED, 2)
    UPDATE(RULE_RMSPROP_CENTERED_MOMENTUM, 3)
    UPDATE(RULE_RPROP, 2)
  }
}

#endif
