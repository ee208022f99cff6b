/* Draws from the integers of the Mersenne Twister mt19937, in the order and with the values of torch on the CPU. */
#ifndef MLPQ_RANDOM_H
#define MLPQ_RANDOM_H

#include "mlpq_kernel.h"

static inline uint32_t twisted(uint32_t high, uint32_t low) {
  uint32_t both = (high & 0x80000000u) | (low & 0x7fffffffu);
  return (both >> 1) ^ (low & 1 ? 0x9908b0dfu : 0);
}

static void twist(mlpq_generator *g) {
  uint64_t *s = g->state;
  for (int i = 0; i < 624; i++)
    s[i] = (uint32_t)s[i < 227 ? i + 397 : i - 227] ^ twisted((uint32_t)s[i], (uint32_t)s[i < 623 ? i + 1 : 0]);
  g->left = 624;
  g->next = 0;
}

static inline uint32_t draw32(mlpq_generator *g) {
  if (--g->left == 0) twist(g);
  uint32_t y = (uint32_t)g->state[g->next++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

static inline uint64_t draw64(mlpq_generator *g) {
  uint64_t high = draw32(g);
  return high << 32 | draw32(g);
}

/* Uniform in [0, 1): a float of 24 bits, a double of 53. */
static inline float draw_float(mlpq_generator *g) { return (float)(draw32(g) & 0xffffffu) * 0x1p-24f; }
static inline double draw_double(mlpq_generator *g) {
  return (double)(draw64(g) & 0x1fffffffffffffu) * 0x1p-53;
}

#endif
