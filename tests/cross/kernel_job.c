/* Trains one job in the kernel, for a CPU on which no Python runs: reads it from stdin and writes what comes out to stdout,
   both as tests/cross/__main__.py lays them out. */
#include <stdio.h>
#include <stdlib.h>

#include "mlpq_kernel.h"

extern const mlpq_build *mlpq_build_named(const char *name);
extern void mlpq_permutation(mlpq_generator *, int64_t, int64_t *);
extern void mlpq_uniform(mlpq_generator *, float, float, int64_t, float *);
extern void mlpq_truncated_normal(mlpq_generator *, double, float, int64_t, float *, float *);

static void *input(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory || fread(memory, 1, bytes, stdin) != bytes) exit(2);
  return memory;
}

static void output(const void *memory, size_t bytes) {
  if (fwrite(memory, 1, bytes, stdout) != bytes) exit(3);
}

static void draw(mlpq_generator *g) {
  enum { N = 1000 };
  static float x[N], again[N];
  static int64_t order[N];
  mlpq_permutation(g, N, order);
  output(order, sizeof order);
  mlpq_uniform(g, -0.1f, 0.1f, N, x);
  output(x, sizeof x);
  mlpq_truncated_normal(g, 0.03, 0.06f, N, x, again);
  output(x, sizeof x);
  mlpq_truncated_normal(g, 0.03, 0.06f, 9, x, again);
  output(x, 9 * sizeof *x);
}

int main(int count, char **arguments) {
  const mlpq_build *build = mlpq_build_named(count > 1 ? arguments[1] : "plain");
  if (!build) return 1;
  int64_t *sizes = input(2 * sizeof *sizes), n = sizes[0], epochs = sizes[1], progress;
  mlpq_config *config = input(sizeof *config);
  mlpq_generator *generator = input(sizeof *generator);
  mlpq_network *network = build->create(config);
  for (int64_t i = 0; i < config->layers; i++) {
    float *weights = input((size_t)(config->widths[i] * config->widths[i + 1]) * sizeof *weights);
    float *bias = input((size_t)(config->bias * config->widths[i + 1]) * sizeof *bias);
    build->put(network, 0, i, weights, bias);
  }
  mlpq_images images = {input((size_t)(n * config->widths[0])), input((size_t)n * 8), NULL, n};
  int64_t batches = (n + config->batch_size - 1) / config->batch_size;
  double *rates = malloc((size_t)batches * sizeof *rates);
  for (int64_t i = 0; i < batches; i++) rates[i] = config->lr;
  int32_t stop = 0;
  for (int64_t i = 0; i < epochs; i++) {
    images.rows = input((size_t)n * 8);
    mlpq_training training = {images, 0, batches, rates, generator, &progress, &stop, 0};
    build->train(network, &training);
    mlpq_evaluation found = {0, 0, NULL, NULL};
    build->evaluate(network, &images, &found);
    output(&training.loss, sizeof training.loss);
    output(&found.loss, sizeof found.loss);
    output(&found.correct, sizeof found.correct);
  }
  for (int64_t i = 0; i < config->layers; i++) {
    size_t size = (size_t)(config->widths[i] * config->widths[i + 1]), outputs = (size_t)config->widths[i + 1];
    float *weights = calloc(size, sizeof *weights), *bias = calloc(outputs, sizeof *bias);
    build->take(network, 0, i, weights, bias);
    output(weights, size * sizeof *weights);
    output(bias, (size_t)config->bias * outputs * sizeof *bias);
  }
  draw(generator);
  build->destroy(network);
  return 0;
}
