/* Memory for arrays of vectors. */
#ifndef MLPQ_MEMORY_H
#define MLPQ_MEMORY_H

#include <stdlib.h>
#include <string.h>

#include "simd.h"

INLINE size_t rounded(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* n elements, at least one, at a cache line, all 0; NULL where there is no memory. */
static UNUSED void *zeros(size_t n, size_t size) {
  size_t bytes = rounded(n * size + 1, LINE);
  void *memory = aligned_alloc(LINE, bytes);
  if (memory) memset(memory, 0, bytes);
  return memory;
}

#endif
