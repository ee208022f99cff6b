/* The kernel's interface: one multilayer perceptron, trained and evaluated on a CPU with the same bits everywhere.

   Sizes and pointers are checked by the caller, mlpq_workers/kernel/library.py, whose structures mirror these. */
#ifndef MLPQ_KERNEL_H
#define MLPQ_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define UNUSED __attribute__((unused))

/* The number of this arithmetic: raise it with every change that may change a bit of any result. */
#define MLPQ_ARITHMETIC 1
/* The number of this interface: library.py loads no library that has another. */
#define MLPQ_INTERFACE 2

#define MLPQ_MAX_LAYERS 33 /* weight matrices: 32 hidden layers and the output */
#define MLPQ_MAX_SETTINGS 8
#define MLPQ_MAX_STATES 3 /* of an optimizer that is not a formula */

#ifdef MLPQ_DOUBLE /* for tests: the same steps in double precision */
typedef double real;
#else
typedef float real;
#endif

enum mlpq_activation { MLPQ_SIGMOID, MLPQ_RELU, MLPQ_TANH };

enum mlpq_optimizer {
  MLPQ_SGD,
  MLPQ_ADAM,
  MLPQ_ADADELTA,
  MLPQ_ADAGRAD,
  MLPQ_ADAMAX,
  MLPQ_ASGD,
  MLPQ_NADAM,
  MLPQ_RADAM,
  MLPQ_RMSPROP,
  MLPQ_RPROP,
  MLPQ_FORMULA,
};

/* The operations of a formula, in the order of mlpq.spec.formula_program. */
enum mlpq_code {
  MLPQ_OP_COPY,
  MLPQ_OP_NEG,
  MLPQ_OP_ABS,
  MLPQ_OP_SIGN,
  MLPQ_OP_SQRT,
  MLPQ_OP_EXP,
  MLPQ_OP_LOG,
  MLPQ_OP_TANH,
  MLPQ_OP_ADD,
  MLPQ_OP_SUB,
  MLPQ_OP_MUL,
  MLPQ_OP_DIV,
  MLPQ_OP_MIN,
  MLPQ_OP_MAX,
  MLPQ_OP_POW,
  MLPQ_OP_LT,
  MLPQ_OP_LE,
  MLPQ_OP_GT,
  MLPQ_OP_GE,
  MLPQ_OP_EQ,
  MLPQ_OP_NE,
  MLPQ_OP_WHERE,
};

/* A register of an operation: scalars are written as -1 - n where the operation is of vectors. */
typedef struct {
  int32_t code, dst, a, b, c;
} mlpq_operation;

/* An optimizer's formula, compiled; see mlpq.spec.formula_program. The kernel copies it. */
typedef struct {
  int64_t states, scalars, vectors;              /* how many of each, all registers counted */
  int64_t scalar_operations, vector_operations;  /* how many of each in `operations`, the scalar ones first */
  int64_t uses_norm_g, uses_norm_p;
  const double *values;                          /* [scalars], of which only the constants matter */
  const mlpq_operation *operations;
} mlpq_program;

/* What defines a network and its training. settings: see update.h; scale: what a pixel's byte is divided by. */
typedef struct {
  int64_t layers;                      /* weight matrices, 1 to MLPQ_MAX_LAYERS */
  int64_t widths[MLPQ_MAX_LAYERS + 1]; /* n_0 (features) … n_layers (classes) */
  int64_t activation;
  int64_t bias;
  int64_t batch_size;
  int64_t scale;
  int64_t optimizer;
  double settings[MLPQ_MAX_SETTINGS];
  double l1;
  double lr;      /* of the first batch: Rprop's first step size */
  double dropout; /* the probability that a hidden activation is set to 0 while training */
  double clip_norm;            /* the largest norm of a gradient over all parameters; 0: no limit */
  double label_smoothing;      /* the share of the truth that is spread evenly over the classes, while training */
  const mlpq_program *program; /* of MLPQ_FORMULA */
} mlpq_config;

/* A Mersenne Twister in the memory layout of torch.Generator.get_state(), 5,056 bytes. */
typedef struct {
  uint64_t seed;
  int32_t left;
  int32_t seeded;
  uint64_t next;
  uint64_t state[624];
  double normal_x, normal_y, normal_rho; /* normal_y: the second of a pair of normal draws, kept for the next call */
  int32_t normal_is_valid;
  int32_t padding;
  float float_normal;
  uint8_t float_normal_is_valid;
  uint8_t padding_2[3];
} mlpq_generator;

/* Images as stored: either pixels or values, [n, features], and labels [n]. rows: which of them, in order. */
typedef struct {
  const uint8_t *pixels;
  const float *values; /* NULL where pixels are stored */
  const int64_t *labels;
  const int64_t *rows;
  int64_t count; /* of rows */
} mlpq_images;

/* One call of train: the batches first … last - 1 of an epoch, whose order is images.rows. */
typedef struct {
  mlpq_images images;
  int64_t first, last;
  const double *rates;       /* the learning rate of each batch of the epoch */
  mlpq_generator *generator; /* of dropout; not used without */
  int64_t *progress;         /* written after each batch: how many batches of the epoch are done */
  const int32_t *stop;       /* read before each batch: not 0 asks to return */
  double loss;               /* in and out: the sum of the cross-entropy over the images of the epoch so far */
} mlpq_training;

/* One call of evaluate: its results. predicted may be NULL, and then confidences is not written. */
typedef struct {
  double loss; /* sum over the images */
  int64_t correct;
  int64_t *predicted; /* [count] */
  real *confidences;  /* [count] softmax of the predicted class */
} mlpq_evaluation;

/* How far an optimizer is. Its products of powers are kept, so that no power is ever computed. */
typedef struct {
  int64_t steps;
  double products[3];
} mlpq_progress;

typedef struct mlpq_network mlpq_network;

/* The functions of one build of the kernel, for one instruction set. Arrays of parameters are weights [outputs, inputs]
   and biases [outputs]; which: 0 for the parameters, 1 … for the states of the optimizer. */
typedef struct {
  const char *name;
  mlpq_network *(*create)(const mlpq_config *); /* NULL: out of memory */
  void (*destroy)(mlpq_network *);
  int64_t (*states)(const mlpq_network *); /* of the optimizer: arrays of the parameters' shapes */
  void (*put)(mlpq_network *, int64_t which, int64_t layer, const real *weights, const real *bias);
  void (*take)(const mlpq_network *, int64_t which, int64_t layer, real *weights, real *bias);
  mlpq_progress *(*progress)(mlpq_network *); /* valid as long as the network */
  int64_t (*train)(mlpq_network *, mlpq_training *); /* the batches of the epoch that are done */
  void (*evaluate)(mlpq_network *, const mlpq_images *, mlpq_evaluation *);
  void (*apply)(int64_t function, const real *x, real *y, int64_t n); /* for tests, see kernel_body.h */
} mlpq_build;

#endif
