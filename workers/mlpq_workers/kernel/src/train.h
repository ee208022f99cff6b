/* Training: the backward pass of MMiDS 8.5.3, gradients and steps, batch after batch. */
#ifndef MLPQ_TRAIN_H
#define MLPQ_TRAIN_H

#include "forward.h"

/* Derivatives of the mean loss over the batch in the scores, (softmax - truth) / batch, to p_columns and p. */
static void begin_backward(mlpq_network *n, const int64_t *labels, size_t count, real rate, const real *totals) {
  layer *l = &n->layers[n->count - 1];
  for (size_t k = 0; k < l->outputs; k++)
    for (size_t i = 0; i < count; i += LANES) {
      real *p = l->p_columns + k * CHUNK + i;
      store(p, load(p) / load(totals + i));
    }
  for (size_t i = 0; i < count; i++) l->p_columns[(size_t)labels[i] * CHUNK + i] -= 1;
  for (size_t k = 0; k < l->outputs; k++)
    for (size_t i = 0; i < count; i += LANES) {
      real *p = l->p_columns + k * CHUNK + i;
      store(p, flushed(load(p) * spread(rate), DERIVATIVE));
    }
  transpose(l->p_columns, CHUNK, l->p, l->stride, l->outputs, count);
}

/* Multiply p of a hidden layer, now the derivative in its activations, by dropout's masks and by the derivative of the
   activation, which needs only the activation's value. */
static void differentiate(const mlpq_network *n, layer *l, size_t first, size_t count) {
  size_t width = rounded(l->outputs, LANES);
  int64_t activation = n->config.activation;
  real factor = 1 / (real)(1.0 - n->config.dropout);
  for (size_t i = 0; i < count; i++) {
    real *p = l->p + i * l->stride;
    const real *z = (l->kept ? l->raw : l->z) + i * l->stride;
    if (l->kept) {
      const uint8_t *kept = l->kept + (first + i) * l->outputs;
      for (size_t k = 0; k < l->outputs; k++) p[k] *= kept[k] ? factor : 0;
    }
    for (size_t k = 0; k < width; k += LANES) {
      vec a = load(z + k), above = load(p + k), slope;
      if (activation == MLPQ_SIGMOID)
        slope = fused(spread(0) - a, a, a);
      else if (activation == MLPQ_TANH)
        slope = fused(spread(0) - a, a, spread(1));
      else
        slope = choose(less(spread(0), a), spread(1), spread(0));
      store(p + k, flushed(above * slope, DERIVATIVE));
    }
  }
}

/* From p_columns of layer `number` to p, and p_columns where they are needed, of the layer below. */
static void backward(mlpq_network *n, size_t number, size_t first, size_t count) {
  layer *l = &n->layers[number], *below = &n->layers[number - 1];
  for (size_t i = 0; i < count; i += PANEL) {
    size_t vectors = count - i > LANES ? 2 : 1;
    for (size_t k = 0, rows; k < l->inputs; k += rows) {
      rows = tile_rows(l->inputs - k, TILE);
      product p = {.a_step = 1, .b_step = CHUNK, .c = below->p_columns + k * CHUNK + i, .c_row = CHUNK};
      for (size_t panel = 0; panel < panel_count(l); panel++) {
        size_t outputs = l->outputs - panel * PANEL;
        p.a_row = panel_width(l, panel);
        p.a = l->parameters + panel_start(l, panel) + k * p.a_row;
        p.b = l->p_columns + panel * PANEL * CHUNK + i;
        p.count = outputs < PANEL ? outputs : PANEL;
        multiply(rows, vectors, &p);
        p.start = p.c;
        p.start_row = CHUNK;
      }
    }
  }
  transpose(below->p_columns, CHUNK, below->p, below->stride, below->outputs, count);
  differentiate(n, below, first, count);
  if (number > 1) transpose(below->p, below->stride, below->p_columns, CHUNK, count, below->outputs);
}

/* A run of parameters of a layer, in panels from `start` on. */
INLINE run run_of(const layer *l, size_t start, size_t count, const real *g) {
  run r = {.w = l->parameters + start, .g = g, .count = count};
  for (int i = 0; i < MLPQ_MAX_STATES; i++) r.states[i] = l->states[i] ? l->states[i] + start : NULL;
  return r;
}

/* Which chunk of its batch is computed. */
typedef struct {
  size_t first, count; /* images */
  int is_first, is_last;
} chunk;

/* Gradients of the rows k … k + rows - 1 of a panel, to p->c. Row l->inputs is the bias, whose input is 1. */
INLINE void aim(product *p, const layer *l, size_t k, const real *x, size_t stride) {
  static const real one = 1;
  int is_bias = k == l->inputs;
  p->a = is_bias ? &one : x + k;
  p->a_step = is_bias ? 0 : stride;
}

/* The gradient of layer `number` for one of several chunks of a batch: the chains continue from chunk to chunk, and the
   step follows the last one. */
static void add_gradient(mlpq_network *n, size_t number, const chunk *c) {
  layer *l = &n->layers[number];
  size_t stride;
  const real *x = inputs_of(n, number, &stride);
  for (size_t panel = 0; panel < panel_count(l); panel++) {
    size_t width = panel_width(l, panel);
    product p = {.b = l->p + panel * PANEL, .b_step = l->stride, .c_row = width, .start_row = width, .count = c->count};
    for (size_t k = 0, rows; k < l->rows; k += rows) {
      rows = k == l->inputs ? 1 : tile_rows(l->inputs - k, TILE);
      aim(&p, l, k, x, stride);
      p.c = l->gradient + panel_start(l, panel) + k * width;
      p.start = c->is_first ? NULL : p.c;
      multiply_columns(rows, width / LANES, &p);
    }
  }
  if (c->is_last) {
    run r = run_of(l, 0, l->length, l->gradient);
    update(&r, &n->step);
  }
}

/* The step of layer `number` for a batch that is one chunk: tile by tile, each while its gradient is in the nearest
   cache. */
static void descend(mlpq_network *n, size_t number, size_t count, prefetcher *ahead) {
  layer *l = &n->layers[number];
  const step *s = &n->step;
  real gradient[TILE * PANEL] __attribute__((aligned(LINE)));
  size_t stride, most = s->rule == RULE_ADAM ? ADAM_TILE : TILE;
  const real *x = inputs_of(n, number, &stride);
  int is_plain = s->rule == RULE_DESCENT && !s->has_l1 && !s->has_decay && !s->has_shrink;
  for (size_t panel = 0; panel < panel_count(l); panel++) {
    size_t width = panel_width(l, panel), vectors = width / LANES;
    product p = {.b = l->p + panel * PANEL, .b_step = l->stride, .c_row = width, .count = count, .step = s};
    p.ahead = ahead;
    for (size_t k = 0, rows; k < l->rows; k += p.tiles * rows) {
      rows = k == l->inputs ? 1 : tile_rows(l->inputs - k, most);
      p.tiles = k < l->inputs && s->rule == RULE_ADAM ? tile_count(l->inputs - k, most) : 1;
      aim(&p, l, k, x, stride);
      run r = run_of(l, panel_start(l, panel) + k * width, rows * width, gradient);
      p.c = r.w;
      if (is_plain) {
        multiply_and_descend(rows, vectors, &p);
      } else if (s->rule == RULE_ADAM) {
        memcpy(p.states, r.states, sizeof p.states);
        multiply_and_step(rows, vectors, &p);
        continue;
      } else {
        p.c = gradient;
        multiply_columns(rows, vectors, &p);
        update(&r, s);
      }
      if (ahead) prefetch(ahead, AHEAD);
    }
  }
}

/* Draw dropout's masks of a batch, layer after layer. */
static void draw_masks(mlpq_network *n, size_t count, mlpq_generator *g) {
  double keep = 1.0 - n->config.dropout;
  for (size_t number = 0; number + 1 < n->count; number++) {
    layer *l = &n->layers[number];
    for (size_t i = 0; i < count * l->outputs; i++) l->kept[i] = draw_double(g) < keep;
  }
}

/* Train on one batch, the rows at `rows`. */
static void train_batch(mlpq_network *n, mlpq_training *t, const int64_t *rows, size_t count, prefetcher *ahead) {
  real totals[CHUNK] __attribute__((aligned(LINE)));
  int64_t labels[CHUNK];
  real rate = 1 / (real)count;
  if (n->config.dropout != 0) draw_masks(n, count, t->generator);
  for (size_t first = 0, size; first < count; first += size) {
    size = count - first < CHUNK ? count - first : CHUNK;
    chunk c = {first, size, first == 0, first + size == count};
    gather(n, &t->images, rows + first, size);
    for (size_t i = 0; i < size; i++) labels[i] = t->images.labels[rows[first + i]];
    forward(n, first, size, 1, ahead);
    cross_entropy(n, labels, size, totals);
    for (size_t i = 0; i < size; i++) t->loss += (double)n->losses[i];
    begin_backward(n, labels, size, rate, totals);
    for (size_t number = n->count; number-- > 0;) {
      if (number) backward(n, number, first, size);
      if (c.is_first && c.is_last)
        descend(n, number, size, number ? NULL : ahead);
      else
        add_gradient(n, number, &c);
    }
  }
}

static int64_t train(mlpq_network *n, mlpq_training *t) {
  uint64_t before = control_get();
  control_set(MLPQ_DEFAULT_CONTROL);
  size_t total = (size_t)t->images.count, batch = (size_t)n->config.batch_size, features = (size_t)n->config.widths[0];
  int64_t number = t->first;
  for (; number < t->last && !__atomic_load_n(t->stop, __ATOMIC_RELAXED); number++) {
    size_t first = (size_t)number * batch, end = first + batch < total ? first + batch : total;
    size_t next = end + CHUNK < total ? end + CHUNK : total;
    prefetcher ahead = {t->images.pixels, t->images.rows + end, features, next - end, 0, 0};
    n->step = update_begin(&n->optimizer, t->rates[number]);
    train_batch(n, t, t->images.rows + first, end - first, &ahead);
    __atomic_store_n(t->progress, number + 1, __ATOMIC_RELAXED);
  }
  control_set(before);
  return number;
}

#endif
