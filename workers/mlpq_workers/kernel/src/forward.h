/* The forward pass of a chunk of images, the loss, and evaluation. */
#ifndef MLPQ_FORWARD_H
#define MLPQ_FORWARD_H

#include "network.h"

/* Images `rows` of the pixels, scaled, to n->x. */
static void gather(mlpq_network *n, const mlpq_images *images, const int64_t *rows, size_t count) {
  size_t features = (size_t)n->config.widths[0], whole = n->has_exact_scaling ? features / LANES * LANES : 0;
  vec reciprocal[2];
  reciprocal_of(n->config.scale, reciprocal);
  for (size_t i = 0; i < count; i++) {
    const uint8_t *bytes = images->pixels + (size_t)rows[i] * features;
    real *x = n->x + i * n->x_stride;
    for (size_t k = 0; k < whole; k += LANES) store(x + k, scaled(from_bytes(bytes + k), reciprocal));
    for (size_t k = whole; k < features; k++) x[k] = n->pixels[bytes[k]];
  }
}

#define INPUTS 112 /* rows of a panel at a time */

/* Inputs of layer `number`: [image][k] with its stride. */
INLINE const real *inputs_of(const mlpq_network *n, size_t number, size_t *stride) {
  *stride = number ? n->layers[number - 1].stride : n->x_stride;
  return number ? n->layers[number - 1].z : n->x;
}

/* The sums of layer `number` for `count` images, to its z. Some inputs at a time, so that their weights stay in the nearest
   cache for all images; the chains continue where they ended. */
static void sums(mlpq_network *n, size_t number, size_t count, prefetcher *ahead) {
  layer *l = &n->layers[number];
  size_t stride;
  const real *x = inputs_of(n, number, &stride);
  for (size_t panel = 0; panel < panel_count(l); panel++) {
    size_t width = panel_width(l, panel);
    const real *w = l->parameters + panel_start(l, panel), *bias = l->rows > l->inputs ? w + l->inputs * width : NULL;
    product p = {.a_row = stride, .b_step = width, .c_row = l->stride};
    for (size_t k = 0; k < l->inputs; k += p.count) {
      p.count = tile_rows(l->inputs - k, INPUTS);
      p.b = w + k * width;
      for (size_t i = 0, rows; i < count; i += rows) {
        rows = tile_rows(count - i, TILE);
        p.a = x + i * stride + k;
        p.c = l->z + i * l->stride + panel * PANEL;
        p.start = k ? p.c : bias;
        p.start_row = k ? l->stride : 0;
        multiply(rows, width / LANES, &p);
        if (ahead) prefetch(ahead, AHEAD);
      }
    }
  }
}

static void activate(const mlpq_network *n, layer *l, size_t count) {
  size_t width = rounded(l->outputs, LANES);
  int64_t activation = n->config.activation;
  for (size_t i = 0; i < count; i++) {
    real *z = l->z + i * l->stride;
    for (size_t k = 0; k < width; k += LANES) {
      vec x = load(z + k);
      if (activation == MLPQ_SIGMOID)
        store(z + k, sigmoid(x));
      else if (activation == MLPQ_TANH)
        store(z + k, hyperbolic_tangent(x));
      else
        store(z + k, choose(less(x, spread(0)), spread(0), x)); /* NaN stays */
    }
  }
}

/* Apply dropout to z, after a copy to raw. `first`: the chunk's first image in the batch. */
static void drop(const mlpq_network *n, layer *l, size_t first, size_t count) {
  real factor = 1 / (real)(1.0 - n->config.dropout);
  for (size_t i = 0; i < count; i++) {
    real *z = l->z + i * l->stride, *raw = l->raw + i * l->stride;
    const uint8_t *kept = l->kept + (first + i) * l->outputs;
    memcpy(raw, z, l->outputs * sizeof(real));
    for (size_t k = 0; k < l->outputs; k++) z[k] *= kept[k] ? factor : 0;
  }
}

/* Scores of `count` images to the last layer's z. is_training: with dropout, for images `first` … of the batch. */
static void forward(mlpq_network *n, size_t first, size_t count, int is_training, prefetcher *ahead) {
  for (size_t number = 0; number < n->count; number++) {
    layer *l = &n->layers[number];
    sums(n, number, count, number ? NULL : ahead);
    if (number + 1 == n->count) break;
    activate(n, l, count);
    if (is_training && l->kept) drop(n, l, first, count);
  }
}

/* Transpose a block. */
INLINE void transpose_block(vec v[LANES]) {
  UNROLL for (int stage = 1; stage < LANES; stage *= 2) {
    vec w[LANES];
    UNROLL for (int j = 0; j < LANES / 2; j++) {
      w[2 * j] = IN_TURN(v[j], v[j + LANES / 2], FIRST_HALVES);
      w[2 * j + 1] = IN_TURN(v[j], v[j + LANES / 2], SECOND_HALVES);
    }
    UNROLL for (int j = 0; j < LANES; j++) v[j] = w[j];
  }
}

/* Transpose from [i][k] to [k][i]: `rows` rows of `columns` elements, in blocks, so that `from` is read up to multiples of
   LANES. */
static void transpose(const real *from, size_t from_row, real *to, size_t to_row, size_t rows, size_t columns) {
  for (size_t i = 0; i < rows; i += LANES)
    for (size_t k = 0; k < columns; k += LANES) {
      vec v[LANES];
      UNROLL for (int j = 0; j < LANES; j++) v[j] = load(from + (i + j) * from_row + k);
      transpose_block(v);
      UNROLL for (int j = 0; j < LANES; j++) {
        if (k + j < columns) store(to + (k + j) * to_row + i, v[j]);
      }
    }
}

/* The cross-entropy of each image to n->losses, from scores in the last layer's z. Leaves exp(score - largest score) in
   p_columns, and their sums in `totals` [CHUNK]. */
static void cross_entropy(mlpq_network *n, const int64_t *labels, size_t count, real *totals) {
  layer *l = &n->layers[n->count - 1];
  real *scores = l->p_columns;
  transpose(l->z, l->stride, scores, CHUNK, count, l->outputs);
  for (size_t i = 0; i < count; i++) n->losses[i] = scores[(size_t)labels[i] * CHUNK + i];
  for (size_t i = 0; i < count; i += LANES) {
    vec most = load(scores + i), total = spread(0);
    for (size_t k = 1; k < l->outputs; k++) {
      vec score = load(scores + k * CHUNK + i);
      most = choose(less(most, score), score, most);
    }
    for (size_t k = 0; k < l->outputs; k++) {
      real *score = scores + k * CHUNK + i;
      vec e = exponential(load(score) - most);
      store(score, e);
      total = total + e;
    }
    store(totals + i, total);
    store(n->losses + i, logarithm(total) - (load(n->losses + i) - most));
  }
}

static void evaluate(mlpq_network *n, const mlpq_images *images, mlpq_evaluation *e) {
  const layer *l = &n->layers[n->count - 1];
  real totals[CHUNK] __attribute__((aligned(LINE)));
  int64_t labels[CHUNK];
  uint64_t before = control_get();
  control_set(MLPQ_DEFAULT_CONTROL);
  e->loss = 0;
  e->correct = 0;
  for (size_t first = 0, total = (size_t)images->count, count; first < total; first += count) {
    count = total - first < CHUNK ? total - first : CHUNK;
    const int64_t *rows = images->rows + first;
    gather(n, images, rows, count);
    for (size_t i = 0; i < count; i++) labels[i] = images->labels[rows[i]];
    forward(n, 0, count, 0, NULL);
    cross_entropy(n, labels, count, totals);
    for (size_t i = 0; i < count; i++) {
      const real *scores = l->z + i * l->stride;
      int64_t best = 0;
      for (int64_t k = 1; k < (int64_t)l->outputs; k++)
        if (scores[k] > scores[best]) best = k;
      e->loss += (double)n->losses[i];
      e->correct += best == labels[i];
      if (e->predicted) {
        e->predicted[first + i] = best;
        e->confidences[first + i] = 1 / totals[i]; /* its exp(score - largest score) is 1 */
      }
    }
  }
  control_set(before);
}

#endif
