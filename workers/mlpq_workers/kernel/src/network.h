/* A network in memory.

   The parameters of a layer are stored in panels of PANEL outputs: panel after panel, and in each one row for each input,
   then one row for the bias. The last panel has LANES outputs where no more are needed. So a tile of products reads a
   panel from its first byte to its last, and no sum runs across lanes. Unused outputs at the end are computed and never
   read. The states of the optimizer are stored in the same way. */
#ifndef MLPQ_NETWORK_H
#define MLPQ_NETWORK_H

#include <stdlib.h>
#include <string.h>

#include "floating_point.h"
#include "functions.h"
#include "products.h"
#include "random.h"
#include "update_rules.h"

#define CHUNK 128 /* images that are computed at a time, so that their activations stay in a cache; a multiple of LANES */

typedef struct {
  size_t inputs, outputs;
  size_t rows;           /* of a panel: inputs, and 1 for the bias */
  size_t length;         /* of the parameters in panels */
  size_t stride;         /* elements from image to image in z, raw and p */
  real *parameters;
  real *states[MLPQ_MAX_STATES];
  real *gradient;        /* in panels; only where a batch takes several chunks */
  real *z, *raw;         /* [image][output]: activations, with dropout and without */
  real *p;               /* [image][output]: derivatives of the loss in the sums of the layer */
  real *p_columns;       /* [output][image]: the same */
  uint8_t *kept;         /* [image of the batch][output]: 1 where dropout keeps the activation */
} layer;

struct mlpq_network {
  mlpq_config config;
  size_t count;          /* of layers */
  layer layers[MLPQ_MAX_LAYERS];
  optimizer optimizer;
  step step;
  real *x;               /* [image][feature] */
  size_t x_stride;
  real pixels[256];      /* byte / scale */
  int has_exact_scaling; /* whether scaled() gives them */
  real losses[CHUNK] __attribute__((aligned(LINE)));
};

INLINE size_t rounded(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* From image to image an odd number of cache lines: equal columns of many images then lie in different sets. */
static size_t image_stride(size_t n) {
  size_t line = LINE / sizeof(real), lines = rounded(n, line > LANES ? line : LANES) / line;
  return (lines % 2 ? lines : lines + (line >= LANES ? 1 : LANES / line)) * line;
}

INLINE size_t panel_width(const layer *l, size_t panel) {
  return l->outputs - panel * PANEL > LANES ? PANEL : LANES;
}
INLINE size_t panel_count(const layer *l) { return (l->outputs + PANEL - 1) / PANEL; }
INLINE size_t panel_start(const layer *l, size_t panel) { return panel * PANEL * l->rows; }

/* n elements, at least one, at a cache line, all 0; NULL where there is no memory. */
static void *zeros(size_t n, size_t size) {
  size_t bytes = rounded(n * size + 1, LINE);
  void *memory = aligned_alloc(LINE, bytes);
  if (memory) memset(memory, 0, bytes);
  return memory;
}

static void free_layer(layer *l) {
  free(l->parameters);
  for (int i = 0; i < MLPQ_MAX_STATES; i++) free(l->states[i]);
  free(l->gradient);
  free(l->z);
  free(l->raw);
  free(l->p);
  free(l->p_columns);
  free(l->kept);
}

static void destroy(mlpq_network *n) {
  if (!n) return;
  for (size_t i = 0; i < n->count; i++) free_layer(&n->layers[i]);
  free(n->x);
  free(n);
}

static int fill_layer(mlpq_network *n, size_t number) {
  const mlpq_config *c = &n->config;
  layer *l = &n->layers[number];
  l->inputs = (size_t)c->widths[number];
  l->outputs = (size_t)c->widths[number + 1];
  l->rows = l->inputs + (c->bias != 0);
  size_t last = panel_count(l) - 1;
  l->length = panel_start(l, last) + panel_width(l, last) * l->rows;
  l->stride = image_stride(last * PANEL + panel_width(l, last));
  int is_hidden = number + 1 < n->count, is_complete = 1;
  int states = states_of(c->optimizer, c->settings);
  is_complete &= (l->parameters = zeros(l->length, sizeof(real))) != NULL;
  for (int i = 0; i < states; i++) {
    is_complete &= (l->states[i] = zeros(l->length, sizeof(real))) != NULL;
    real first = initial_state(&n->optimizer, i, c->lr);
    for (size_t j = 0; first != 0 && l->states[i] && j < l->length; j++) l->states[i][j] = first;
  }
  if (c->batch_size > CHUNK) is_complete &= (l->gradient = zeros(l->length, sizeof(real))) != NULL;
  is_complete &= (l->z = zeros(CHUNK * l->stride, sizeof(real))) != NULL;
  is_complete &= (l->p = zeros(CHUNK * l->stride, sizeof(real))) != NULL;
  is_complete &= (l->p_columns = zeros(rounded(l->outputs, LANES) * CHUNK, sizeof(real))) != NULL;
  if (is_hidden && c->dropout != 0) {
    is_complete &= (l->raw = zeros(CHUNK * l->stride, sizeof(real))) != NULL;
    is_complete &= (l->kept = zeros((size_t)c->batch_size * l->outputs, 1)) != NULL;
  }
  return is_complete;
}

/* byte / scale without a division: by a reciprocal of twice the precision. Exact for the scales of the data sets, see
   has_exact_scaling. */
INLINE vec scaled(vec byte, const vec reciprocal[2]) {
  return fused(byte, reciprocal[0], byte * reciprocal[1]);
}

INLINE void reciprocal_of(int64_t scale, vec reciprocal[2]) {
  reciprocal[0] = spread(1) / spread((real)scale);
  /* 1 - scale * reciprocal is exact. */
  reciprocal[1] = fused(spread(0) - spread((real)scale), reciprocal[0], spread(1)) / spread((real)scale);
}

static void fill_pixels(mlpq_network *n) {
  vec reciprocal[2];
  reciprocal_of(n->config.scale, reciprocal);
  n->has_exact_scaling = 1;
  for (int i = 0; i < 256; i++) {
    n->pixels[i] = (real)i / (real)n->config.scale;
    n->has_exact_scaling &= scaled(spread((real)i), reciprocal)[0] == n->pixels[i];
  }
}

static mlpq_network *create(const mlpq_config *config) {
  mlpq_network *n = zeros(1, sizeof *n);
  if (!n) return NULL;
  n->config = *config;
  n->count = (size_t)config->layers;
  n->optimizer.optimizer = config->optimizer;
  memcpy(n->optimizer.settings, config->settings, sizeof config->settings);
  n->optimizer.l1 = config->l1;
  for (int i = 0; i < 3; i++) n->optimizer.progress.products[i] = 1;
  n->x_stride = image_stride((size_t)config->widths[0]);
  int is_complete = (n->x = zeros(CHUNK * n->x_stride, sizeof(real))) != NULL;
  for (size_t i = 0; i < n->count; i++) is_complete &= fill_layer(n, i);
  if (!is_complete) {
    destroy(n);
    return NULL;
  }
  fill_pixels(n);
  return n;
}

/* Copies between panels and arrays weights [outputs, inputs], bias [outputs]. */
typedef struct {
  real *panels, *weights, *bias;
} copied;

INLINE void copy(const layer *l, copied c, int is_put) {
  for (size_t o = 0; o < l->outputs; o++) {
    size_t panel = o / PANEL, width = panel_width(l, panel);
    real *column = c.panels + panel_start(l, panel) + o % PANEL;
    for (size_t k = 0; k < l->rows; k++) {
      real *one = k < l->inputs ? &c.weights[o * l->inputs + k] : &c.bias[o];
      if (is_put)
        column[k * width] = *one;
      else
        *one = column[k * width];
    }
  }
}

static void put(mlpq_network *n, int64_t which, int64_t number, const real *weights, const real *bias) {
  layer *l = &n->layers[number];
  copied c = {which ? l->states[which - 1] : l->parameters, (real *)weights, (real *)bias};
  copy(l, c, 1);
}

static void take(const mlpq_network *n, int64_t which, int64_t number, real *weights, real *bias) {
  const layer *l = &n->layers[number];
  copied c = {which ? l->states[which - 1] : l->parameters, weights, bias};
  copy(l, c, 0);
}

static int64_t states(const mlpq_network *n) { return states_of(n->config.optimizer, n->config.settings); }

static mlpq_progress *progress(mlpq_network *n) { return &n->optimizer.progress; }

#endif
