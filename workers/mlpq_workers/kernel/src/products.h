/* Matrix products. Every element is one chain of fused multiply-adds, c = fma(a[r][t], b[t], c) for t = 0, 1, …, in this
   order on every target: vectors run over independent elements, and tiles only group elements that share a factor. */
#ifndef MLPQ_PRODUCTS_H
#define MLPQ_PRODUCTS_H

#include "update_rules.h"

/* Fetches the pixels of the images that come next while this batch is computed: a few cache lines at a time, since a core
   waits for only so many at once, its own among them. */
typedef struct {
  const uint8_t *pixels;
  const int64_t *rows;
  size_t features, count, done, offset; /* images done, and bytes of the next one */
} prefetcher;

#define AHEAD 6 /* lines for each tile of products */

INLINE void prefetch(prefetcher *p, size_t lines) {
  for (; lines && p->done < p->count; lines--) {
    __builtin_prefetch(p->pixels + (size_t)p->rows[p->done] * p->features + p->offset, 0, 2);
    p->offset += LINE;
    if (p->offset >= p->features) {
      p->offset = 0;
      p->done++;
    }
  }
}

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
  size_t c_row; /* vectors * LANES but for ALONG_ROWS; so is start_row */
  size_t count;
  const step *step; /* for DESCENT and ADAM */
  /* For ADAM: */
  size_t tiles;      /* that lie below each other */
  real *states[2];   /* of the parameters c */
  prefetcher *ahead; /* or NULL */
} product;

/* DOWN_COLUMNS computes gradients. DESCENT is the same, and c takes a step of plain descent by it. ADAM is the same for
   some tiles, and c takes Adam's step by it, each tile while the gradient of the next one is computed: the roots and
   divisions keep busy what the multiply-adds leave idle. */
enum kind { ALONG_ROWS, DOWN_COLUMNS, DESCENT, ADAM };

INLINE void begin_chains(int rows, int vectors, const product *p, vec c[TILE][2]) {
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      c[r][v] = p->start ? load(p->start + r * p->start_row + v * LANES) : spread(0);
    }
  }
}

/* Add the next `count` terms of p, and move p's factors past them. */
INLINE void add_terms(int rows, int vectors, enum kind kind, product *p, size_t count, vec c[TILE][2]) {
  for (size_t t = 0; t < count; t++) {
    vec b0 = load(p->b), b1 = vectors > 1 ? load(p->b + LANES) : b0;
    UNROLL for (int r = 0; r < rows; r++) {
      vec x = spread(p->a[r * p->a_row]);
      c[r][0] = fused(x, b0, c[r][0]);
      if (vectors > 1) c[r][1] = fused(x, b1, c[r][1]);
    }
    /* For the next tile: many rows, a few elements of each. */
    if (kind != ALONG_ROWS) __builtin_prefetch(p->a + 2 * rows);
    p->a += p->a_step;
    p->b += p->b_step;
  }
}

INLINE void tile(int rows, int vectors, enum kind kind, const product *given) {
  product p = *given; /* copies, which no store can change */
  const real lr = kind == DESCENT ? p.step->lr : 0;
  vec c[TILE][2];
  if (kind == ALONG_ROWS) {
    p.a_step = 1;
  } else {
    p.a_row = 1;
    p.c_row = p.start_row = vectors * LANES;
  }
  begin_chains(rows, vectors, &p, c);
  add_terms(rows, vectors, kind, &p, p.count, c);
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      real *to = p.c + r * p.c_row + v * LANES;
      store(to, kind == DESCENT ? minus(load(to), lr, c[r][v]) : c[r][v]);
    }
  }
}

INLINE void tiles_with_adam(int rows, int vectors, const product *given) {
  const product all = *given;
  const step s = *all.step;
  const size_t size = rows * vectors * LANES;
  const size_t terms = all.count * LANES / size; /* of a tile, for each vector of the tile before */
  real gradients[2][TILE * PANEL] __attribute__((aligned(LINE)));
  adam_steps steps = {.w = all.c, .s0 = all.states[0], .s1 = all.states[1]};
  for (size_t n = 0; n < all.tiles; n++) {
    product p = all;
    const real *before = gradients[(n + 1) % 2];
    vec c[TILE][2];
    p.a += n * rows;
    p.a_row = 1;
    begin_chains(rows, vectors, &p, c);
    for (size_t i = 0; n && i < size; i += LANES, p.count -= terms) {
      begin_adam_step(&steps, before + i, &s);
      add_terms(rows, vectors, ADAM, &p, terms, c);
    }
    add_terms(rows, vectors, ADAM, &p, p.count, c);
    UNROLL for (int r = 0; r < rows; r++) {
      UNROLL for (int v = 0; v < vectors; v++) store(gradients[n % 2] + (r * vectors + v) * LANES, c[r][v]);
    }
    if (p.ahead) prefetch(p.ahead, AHEAD);
  }
  for (size_t i = 0; i < size; i += LANES) begin_adam_step(&steps, gradients[(all.tiles + 1) % 2] + i, &s);
  end_adam_steps(&steps, &s);
}

#define TILE_OF(kind, vectors, rows) \
  case rows: \
    if (kind == ADAM) \
      tiles_with_adam(rows, vectors, p); \
    else \
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

/* How many tiles come next that have as many rows as tile_rows says. */
INLINE size_t tile_count(size_t count, size_t most) {
  size_t tiles = (count + most - 1) / most;
  return count - tiles * (tile_rows(count, most) - 1);
}

#endif
