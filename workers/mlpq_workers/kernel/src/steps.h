/* Steps from gradients that are kept: where a batch takes several chunks, and where a step needs the gradients of all
   layers, as a clipped one and that of a formula. */
#ifndef MLPQ_STEPS_H
#define MLPQ_STEPS_H

#include "network.h"

/* A run of parameters of a layer, in panels from `start` on. */
INLINE run run_of(const layer *l, size_t start, size_t count, const real *g) {
  run r = {.w = l->parameters + start, .g = g, .count = count};
  for (int i = 0; i < MLPQ_MAX_STATES; i++) r.states[i] = l->states[i] ? l->states[i] + start : NULL;
  return r;
}

/* Adds the squares of the values of a layer, in panels, to `total`: a chain for each output, over its inputs and then its
   bias, and then one over the outputs. In double precision, in which the square of a float is exact. */
static double with_squares(double total, const layer *l, const real *values) {
  for (size_t panel = 0; panel < panel_count(l); panel++) {
    size_t width = panel_width(l, panel), outputs = l->outputs - panel * PANEL;
    const real *x = values + panel_start(l, panel), *second = x + width - LANES; /* the first again, where it is alone */
    half sums[4] = {{0}, {0}, {0}, {0}};
    for (size_t k = 0; k < l->rows; k++) {
      half each[4] = {low_half(load(x)), high_half(load(x)), low_half(load(second)), high_half(load(second))};
      UNROLL for (int i = 0; i < 4; i++) sums[i] = sums[i] + each[i] * each[i];
      x += width;
      second += width;
    }
    double chains[PANEL];
    memcpy(chains, sums, sizeof chains);
    for (size_t i = 0; i < outputs && i < width; i++) total += chains[i];
  }
  return total;
}

static double norm_of_gradients(const mlpq_network *n) {
  double total = 0;
  for (size_t i = 0; i < n->count; i++) total = with_squares(total, &n->layers[i], n->layers[i].gradient);
  return __builtin_sqrt(total);
}

static double norm_of_parameters(const mlpq_network *n) {
  double total = 0;
  for (size_t i = 0; i < n->count; i++) total = with_squares(total, &n->layers[i], n->layers[i].parameters);
  return __builtin_sqrt(total);
}

static void add_penalty(layer *l, real l1) {
  for (size_t i = 0; i < l->length; i += LANES)
    store(l->gradient + i, fused(spread(l1), sign_of(load(l->parameters + i)), load(l->gradient + i)));
}

static void scale_gradient(layer *l, real factor) {
  for (size_t i = 0; i < l->length; i += LANES) store(l->gradient + i, load(l->gradient + i) * spread(factor));
}

/* A step of a layer by a formula, block by block. */
static void step_by_formula(const formula *f, const layer *l) {
  for (size_t start = 0, count; start < l->length; start += count) {
    count = l->length - start < BLOCK ? l->length - start : BLOCK;
    f->registers[VECTOR_P] = l->parameters + start;
    f->registers[VECTOR_G] = l->gradient + start;
    for (int64_t i = 0; i < f->program.states; i++) f->registers[VECTOR_FIRST_STATE + i] = l->states[i] + start;
    run_block(f, count);
  }
}

/* The norm is of the gradient as the formula sees it. */
static void begin_formula(const mlpq_network *n, double norm) {
  formula *f = n->formula;
  f->values[SCALAR_STEP] = (double)n->optimizer.progress.steps;
  f->values[SCALAR_RATE] = n->rate;
  f->values[SCALAR_NORM_G] = norm;
  if (f->program.uses_norm_p) f->values[SCALAR_NORM_P] = norm_of_parameters(n);
  run_scalars(f);
}

/* The step of a layer by the gradient that it holds. */
static void step_layer(const mlpq_network *n, layer *l, const step *s) {
  if (n->formula) {
    step_by_formula(n->formula, l);
  } else {
    run r = run_of(l, 0, l->length, l->gradient);
    update(&r, s);
  }
}

/* The step of all layers, where it needs the gradients of all; clipped as by torch.nn.utils.clip_grad_norm_. */
static void step_all(mlpq_network *n) {
  step s = n->step;
  double norm = 0, limit = n->config.clip_norm;
  real factor = 1;
  for (size_t i = 0; i < n->count && s.has_l1; i++) add_penalty(&n->layers[i], s.l1);
  s.has_l1 = 0;
  if (limit != 0 || n->formula->program.uses_norm_g) norm = norm_of_gradients(n);
  if (limit != 0 && !(limit / (norm + 1e-6) >= 1)) factor = (real)(limit / (norm + 1e-6)); /* NaN stays */
  if (n->formula) begin_formula(n, norm * (double)factor);
  for (size_t i = 0; i < n->count; i++) {
    if (factor != 1) scale_gradient(&n->layers[i], factor);
    step_layer(n, &n->layers[i], &s);
  }
}

#endif
