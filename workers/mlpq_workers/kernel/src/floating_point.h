/* The floating-point environment of a call: round to nearest, subnormal numbers kept. Another library in the process
   may have set flush-to-zero. */
#ifndef MLPQ_FLOATING_POINT_H
#define MLPQ_FLOATING_POINT_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define MLPQ_DEFAULT_CONTROL 0x1f80u /* all exceptions masked, as at the start of a process */
static inline uint64_t control_get(void) { return _mm_getcsr(); }
static inline void control_set(uint64_t control) { _mm_setcsr((unsigned)control); }
#elif defined(__aarch64__)
#define MLPQ_DEFAULT_CONTROL 0u
static inline uint64_t control_get(void) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  return control;
}
static inline void control_set(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }
#else
#define MLPQ_DEFAULT_CONTROL 0u
static inline uint64_t control_get(void) { return 0; }
static inline void control_set(uint64_t control) { (void)control; }
#endif

#endif
