/* Matrix products. Every element is one chain of fused multiply-adds, c = fma(a[r][t], b[t], c) for t = 0, 1, …, in this
   order on every target: vectors run over independent elements, and tiles only group elements that share a factor. */
#ifndef MLPQ_PRODUCTS_H
#define MLPQ_PRODUCTS_H

#include "simd.h"

/* Factor a has elements a[r * row + t * step]; b has vectors at b + t * b_step; c is [rows][vectors * LANES] with c_row
   elements from row to row. The chains start at `start`, with start_row elements from row to row (0: the same for each
   row), or at 0 where start is NULL. Terms t = 0 … count - 1. */
typedef struct {
  const real *a;
  size_t a_row, a_step;
  const real *b;
  size_t b_step;
  const real *start;
  size_t start_row;
  real *c;
  size_t c_row;
  size_t count;
} product;

INLINE void tile(int rows, int vectors, const product *given) {
  const product p = *given; /* a copy, which no store can change */
  vec c[TILE][2];
  const real *a = p.a, *b = p.b;
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      c[r][v] = p.start ? load(p.start + r * p.start_row + v * LANES) : spread(0);
    }
  }
  for (size_t t = 0; t < p.count; t++) {
    vec b0 = load(b), b1 = vectors > 1 ? load(b + LANES) : b0;
    UNROLL for (int r = 0; r < rows; r++) {
      vec x = spread(a[r * p.a_row]);
      c[r][0] = fused(x, b0, c[r][0]);
      if (vectors > 1) c[r][1] = fused(x, b1, c[r][1]);
    }
    a += p.a_step;
    b += p.b_step;
  }
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < vectors; v++) store(p.c + r * p.c_row + v * LANES, c[r][v]);
  }
}

#define TILES_OF(vectors, rows) \
  case rows: \
    tile(rows, vectors, p); \
    break;

#if TILE > 6
#define TILES_ABOVE_6(vectors) \
  TILES_OF(vectors, 7) TILES_OF(vectors, 8) TILES_OF(vectors, 9) TILES_OF(vectors, 10) TILES_OF(vectors, 11) \
  TILES_OF(vectors, 12)
#else
#define TILES_ABOVE_6(vectors)
#endif
#if TILE > 12
#define TILES_ABOVE_12(vectors) TILES_OF(vectors, 13) TILES_OF(vectors, 14)
#else
#define TILES_ABOVE_12(vectors)
#endif
#if TILE > 4
#define TILES_ABOVE_4(vectors) TILES_OF(vectors, 5) TILES_OF(vectors, 6)
#else
#define TILES_ABOVE_4(vectors)
#endif
#define TILES(vectors) \
  TILES_OF(vectors, 1) TILES_OF(vectors, 2) TILES_OF(vectors, 3) TILES_OF(vectors, 4) \
  TILES_ABOVE_4(vectors) TILES_ABOVE_6(vectors) TILES_ABOVE_12(vectors)

/* rows: 1 … TILE; vectors: 1 or 2. */
static __attribute__((noinline)) void multiply(size_t rows, size_t vectors, const product *p) {
  if (vectors == 2)
    switch (rows) { TILES(2) }
  else
    switch (rows) { TILES(1) }
}

/* How many of `count` rows the next tile takes, so that all tiles are about equally large. */
INLINE size_t tile_rows(size_t count) {
  size_t tiles = (count + TILE - 1) / TILE;
  return (count + tiles - 1) / tiles;
}

#endif
