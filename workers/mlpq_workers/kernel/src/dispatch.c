/* Which builds this library has and which of them this CPU runs. */
#include <string.h>

#include "mlpq_kernel.h"

extern const mlpq_build mlpq_plain;
#if defined(__x86_64__) && !defined(MLPQ_DOUBLE)
extern const mlpq_build mlpq_avx512, mlpq_avx2;
#endif

int64_t mlpq_arithmetic(void) { return MLPQ_ARITHMETIC; }
int64_t mlpq_interface(void) { return MLPQ_INTERFACE; }

/* Sizes of the structures, for the caller to compare with its own. */
void mlpq_sizes(int64_t sizes[9]) {
  const int64_t own[9] = {
      sizeof(real),          sizeof(mlpq_config),     sizeof(mlpq_operation), sizeof(mlpq_program), sizeof(mlpq_generator),
      sizeof(mlpq_training), sizeof(mlpq_evaluation), sizeof(mlpq_progress),  sizeof(mlpq_build)};
  memcpy(sizes, own, sizeof own);
}

/* The build of that name, "avx512", "avx2" or "plain"; NULL where this library has none or this CPU can't run it. */
const mlpq_build *mlpq_build_named(const char *name) {
#if defined(__x86_64__) && !defined(MLPQ_DOUBLE)
  __builtin_cpu_init();
  if (!strcmp(name, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma"))
    return &mlpq_avx512;
  if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &mlpq_avx2;
#endif
  return strcmp(name, "plain") ? NULL : &mlpq_plain;
}
