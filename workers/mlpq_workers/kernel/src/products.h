/* Matrix products. Every element is one chain of fused multiply-adds, c = fma(a[r][t], b[t], c) for t = 0, 1, …, in this
   order on every target: vectors run over independent elements, and tiles only group elements that share a factor. */
#ifndef MLPQ_PRODUCTS_H
#define MLPQ_PRODUCTS_H

#include "update_rules.h"

/* Factor a has elements a[r * row + t * step]; b has vectors at b + t * b_step; c is [rows][vectors * LANES] with c_row
   elements from row to row. The chains start at `start`, with start_row elements from row to row (0: the same for each
   row), or at 0 where start is NULL. Terms t = 0 … count - 1. */
typedef struct {
  const real *a;
  size_t a_row, a_step; /* a_step is 1 for ALONG_ROWS, a_row for the other kinds */
  const real *b;
  size_t b_step;
  const real *start;
  size_t start_row;
  real *c;
  size_t c_row;
  size_t count;
  const step *step;   /* for DESCENT and ADAM */
  const run *pending; /* for ADAM */
} product;

/* DOWN_COLUMNS computes gradients. DESCENT is the same, and c takes a step of plain descent by it. ADAM is the same, and
   Adam's step of other parameters, `pending`, is computed in between: its roots and divisions keep busy what the
   multiply-adds leave idle. As many vectors of them as there are terms. */
enum kind { ALONG_ROWS, DOWN_COLUMNS, DESCENT, ADAM };

INLINE void tile(int rows, int vectors, enum kind kind, const product *given) {
  product p = *given; /* copies, which no store can change */
  const run pending = kind == ADAM ? *p.pending : (run){0};
  const step s = kind >= DESCENT ? *p.step : (step){0};
  vec c[TILE][2];
  const real *a = p.a, *b = p.b;
  if (kind == ALONG_ROWS)
    p.a_step = 1;
  else
    p.a_row = 1;
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
    if (kind != ALONG_ROWS) __builtin_prefetch(a + 2 * rows); /* for the next tile: many rows, a few elements of each */
    if (kind == ADAM && t * LANES < pending.count) update_one(&pending, t * LANES, &s, RULE_ADAM, 2);
    a += p.a_step;
    b += p.b_step;
  }
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      real *to = p.c + r * p.c_row + v * LANES;
      store(to, kind == DESCENT ? minus(load(to), s.lr, c[r][v]) : c[r][v]);
    }
  }
}

#define TILE_OF(kind, vectors, rows) \
  case rows: \
    tile(rows, vectors, kind, p); \
    break;
#if TILE > 4
#define TILES_ABOVE_4(kind, vectors) TILE_OF(kind, vectors, 5) TILE_OF(kind, vectors, 6)
#else
#define TILES_ABOVE_4(kind, vectors)
#endif
#if TILE > 6
#define TILES_ABOVE_6(kind, vectors) \
  TILE_OF(kind, vectors, 7) TILE_OF(kind, vectors, 8) TILE_OF(kind, vectors, 9) \
  TILE_OF(kind, vectors, 10) TILE_OF(kind, vectors, 11) TILE_OF(kind, vectors, 12)
#else
#define TILES_ABOVE_6(kind, vectors)
#endif
#if TILE > 12
#define TILES_ABOVE_12(kind, vectors) TILE_OF(kind, vectors, 13) TILE_OF(kind, vectors, 14)
#else
#define TILES_ABOVE_12(kind, vectors)
#endif
#define TILES(kind, vectors) \
  TILE_OF(kind, vectors, 1) TILE_OF(kind, vectors, 2) TILE_OF(kind, vectors, 3) TILE_OF(kind, vectors, 4) \
  TILES_ABOVE_4(kind, vectors) TILES_ABOVE_6(kind, vectors) TILES_ABOVE_12(kind, vectors)

/* A function for each kind. rows: 1 … TILE; vectors: 1 or 2. */
#define MULTIPLY(name, kind) \
  static __attribute__((noinline)) void name(size_t rows, size_t vectors, const product *p) { \
    if (vectors == 2) \
      switch (rows) { TILES(kind, 2) } \
    else \
      switch (rows) { TILES(kind, 1) } \
  }
MULTIPLY(multiply, ALONG_ROWS)
MULTIPLY(multiply_columns, DOWN_COLUMNS)
MULTIPLY(multiply_and_descend, DESCENT)
MULTIPLY(multiply_and_step, ADAM)

/* How many of `count` rows the next tile takes, so that all tiles are about equally large. */
INLINE size_t tile_rows(size_t count, size_t most) {
  size_t tiles = (count + most - 1) / most;
  return (count + tiles - 1) / tiles;
}

#endif
