/* The optimizers: one step of each parameter from its gradient, by the formulas of torch.optim, element by element.

   A batch begins with `update_begin`, which turns the settings and the number of steps so far into the few scalars of
   the step; `update` then applies the step to any run of parameters. The settings are those of mlpq.spec.optimizers in
   its order; a pair takes two places. */
#ifndef MLPQ_UPDATE_H
#define MLPQ_UPDATE_H

#include "scalar.h"
#include "simd.h"

enum { SGD_MOMENTUM, SGD_DAMPENING, SGD_DECAY, SGD_NESTEROV };
enum { ADAM_BETA1, ADAM_BETA2, ADAM_EPS, ADAM_DECAY, ADAM_AMSGRAD, ADAM_DECOUPLED };
enum { ADADELTA_RHO, ADADELTA_EPS, ADADELTA_DECAY };
enum { ADAGRAD_LR_DECAY, ADAGRAD_DECAY, ADAGRAD_INITIAL, ADAGRAD_EPS };
enum { ADAMAX_BETA1, ADAMAX_BETA2, ADAMAX_EPS, ADAMAX_DECAY };
enum { ASGD_LAMBD, ASGD_ALPHA, ASGD_T0, ASGD_DECAY };
enum { NADAM_BETA1, NADAM_BETA2, NADAM_EPS, NADAM_DECAY, NADAM_MOMENTUM_DECAY, NADAM_DECOUPLED };
enum { RADAM_BETA1, RADAM_BETA2, RADAM_EPS, RADAM_DECAY, RADAM_DECOUPLED };
enum { RMSPROP_ALPHA, RMSPROP_EPS, RMSPROP_DECAY, RMSPROP_MOMENTUM, RMSPROP_CENTERED };
enum { RPROP_ETA_MINUS, RPROP_ETA_PLUS, RPROP_SMALLEST, RPROP_LARGEST };

/* The rules of a step: an optimizer and those of its options that change which operations it takes. */
enum rule {
  RULE_DESCENT,
  RULE_MOMENTUM,
  RULE_NESTEROV,
  RULE_ADAM,
  RULE_AMSGRAD,
  RULE_ADADELTA,
  RULE_ADAGRAD,
  RULE_ADAMAX,
  RULE_NADAM,
  RULE_RADAM,
  RULE_RADAM_UNRECTIFIED,
  RULE_RMSPROP,
  RULE_RMSPROP_MOMENTUM,
  RULE_RMSPROP_CENTERED,
  RULE_RMSPROP_CENTERED_MOMENTUM,
  RULE_RPROP,
};

/* One step. The gradient gets l1 * sign(w) + decay * w; the parameter is multiplied by `shrink` where has_shrink. */
typedef struct {
  enum rule rule;
  int has_l1, has_decay, has_shrink;
  real l1, decay, shrink;
  real lr; /* the learning rate, with what corrects the bias of averages */
  real c[7];
} step;

typedef struct {
  int64_t optimizer;
  double settings[MLPQ_MAX_SETTINGS];
  double l1, lr; /* lr: the spec's */
  mlpq_progress progress;
} optimizer;

static int states_of(int64_t kind, const double *settings) {
  switch (kind) {
    case MLPQ_SGD: return settings[SGD_MOMENTUM] != 0;
    case MLPQ_ADAM: return settings[ADAM_AMSGRAD] != 0 ? 3 : 2;
    case MLPQ_ASGD: return 0; /* torch also keeps an average of the weights, which nothing here reads */
    case MLPQ_ADAGRAD: return 1;
    case MLPQ_RMSPROP: return 1 + (settings[RMSPROP_CENTERED] != 0) + (settings[RMSPROP_MOMENTUM] != 0);
    default: return 2;
  }
}

/* What a state holds before the first step. */
static real initial_state(const optimizer *o, int number, double lr) {
  if (o->optimizer == MLPQ_ADAGRAD) return (real)o->settings[ADAGRAD_INITIAL];
  return o->optimizer == MLPQ_RPROP && number == 1 ? (real)lr : 0;
}

static void decay_by(step *s, double decay, int is_decoupled, double lr) {
  s->has_decay = decay != 0 && !is_decoupled;
  s->has_shrink = decay != 0 && is_decoupled;
  s->decay = (real)decay;
  s->shrink = (real)(1.0 - lr * decay);
}

/* What the optimizers with two averages share: c[0] and c[1] weigh what is added, c[6] and c[2] what there was. */
static void begin_averages(step *s, mlpq_progress *p, double beta1, double beta2, double eps) {
  p->products[0] *= beta1;
  p->products[1] *= beta2;
  s->c[0] = (real)(1.0 - beta1);
  s->c[1] = (real)(1.0 - beta2);
  s->c[2] = (real)beta2;
  s->c[3] = (real)eps;
  s->c[6] = (real)beta1;
}

static void begin_sgd(step *s, const double *set, mlpq_progress *p, double lr) {
  decay_by(s, set[SGD_DECAY], 0, lr);
  s->lr = (real)lr;
  if (set[SGD_MOMENTUM] == 0) {
    s->rule = RULE_DESCENT;
    return;
  }
  s->rule = set[SGD_NESTEROV] != 0 ? RULE_NESTEROV : RULE_MOMENTUM;
  s->c[0] = (real)set[SGD_MOMENTUM];
  s->c[1] = p->steps == 1 ? 1 : (real)(1.0 - set[SGD_DAMPENING]); /* the first gradient isn't dampened */
}

static void begin_adam(step *s, const double *set, mlpq_progress *p, double lr) {
  decay_by(s, set[ADAM_DECAY], set[ADAM_DECOUPLED] != 0, lr);
  begin_averages(s, p, set[ADAM_BETA1], set[ADAM_BETA2], set[ADAM_EPS]);
  s->rule = set[ADAM_AMSGRAD] != 0 ? RULE_AMSGRAD : RULE_ADAM;
  s->lr = (real)(lr / (1.0 - p->products[0]));
  s->c[4] = (real)(1.0 / __builtin_sqrt(1.0 - p->products[1]));
}

static void begin_nadam(step *s, const double *set, mlpq_progress *p, double lr) {
  decay_by(s, set[NADAM_DECAY], set[NADAM_DECOUPLED] != 0, lr);
  /* products[0] is that of the momenta; products[2] is 0.96^(steps * momentum_decay). */
  double factor = pow64(0.96, set[NADAM_MOMENTUM_DECAY]), before = p->products[0];
  begin_averages(s, p, set[NADAM_BETA1], set[NADAM_BETA2], set[NADAM_EPS]);
  p->products[2] *= factor;
  double mu = set[NADAM_BETA1] * (1.0 - 0.5 * p->products[2]);
  double next = set[NADAM_BETA1] * (1.0 - 0.5 * p->products[2] * factor);
  p->products[0] = (double)((float)before * (float)mu); /* in single precision, as torch keeps it */
  s->rule = RULE_NADAM;
  s->lr = (real)(lr * (1.0 - mu) / (1.0 - p->products[0]));
  s->c[4] = (real)(1.0 / __builtin_sqrt(1.0 - p->products[1]));
  s->c[5] = (real)(lr * next / (1.0 - p->products[0] * next));
}

static void begin_radam(step *s, const double *set, mlpq_progress *p, double lr) {
  decay_by(s, set[RADAM_DECAY], set[RADAM_DECOUPLED] != 0, lr);
  begin_averages(s, p, set[RADAM_BETA1], set[RADAM_BETA2], set[RADAM_EPS]);
  double correction = 1.0 - p->products[1], limit = 2.0 / (1.0 - set[RADAM_BETA2]) - 1.0;
  double rho = limit - 2.0 * (double)p->steps * p->products[1] / correction;
  s->rule = rho > 5.0 ? RULE_RADAM : RULE_RADAM_UNRECTIFIED;
  double rate = lr / (1.0 - p->products[0]);
  if (s->rule == RULE_RADAM)
    rate *= __builtin_sqrt(correction) * __builtin_sqrt((rho - 4.0) * (rho - 2.0) * limit /
                                                        ((limit - 4.0) * (limit - 2.0) * rho));
  s->lr = (real)rate;
}

static void begin_rmsprop(step *s, const double *set, double lr) {
  decay_by(s, set[RMSPROP_DECAY], 0, lr);
  int has_momentum = set[RMSPROP_MOMENTUM] != 0;
  s->rule = set[RMSPROP_CENTERED] != 0 ? (has_momentum ? RULE_RMSPROP_CENTERED_MOMENTUM : RULE_RMSPROP_CENTERED)
                                       : (has_momentum ? RULE_RMSPROP_MOMENTUM : RULE_RMSPROP);
  s->lr = (real)lr;
  s->c[1] = (real)(1.0 - set[RMSPROP_ALPHA]);
  s->c[2] = (real)set[RMSPROP_ALPHA];
  s->c[3] = (real)set[RMSPROP_EPS];
  s->c[4] = (real)set[RMSPROP_MOMENTUM];
}

static void begin_asgd(step *s, const optimizer *o, mlpq_progress *p, double lr) {
  const double *set = o->settings;
  /* The rate falls with the steps before this one; in single precision, as torch keeps it. It is that of the last
     step, since torch computes the next rate at the end of each: products[2] where products[1] is 0, else the spec's. */
  double before = p->steps == 1 ? lr : p->products[1] == 0 ? p->products[2] : o->lr;
  double eta = (float)(before / pow64(1.0 + set[ASGD_LAMBD] * before * (double)(p->steps - 1), set[ASGD_ALPHA]));
  p->products[1] = lr == o->lr;
  p->products[2] = lr == o->lr ? 1 : lr;
  decay_by(s, set[ASGD_DECAY], 0, lr);
  s->rule = RULE_DESCENT;
  s->has_shrink = set[ASGD_LAMBD] != 0;
  s->shrink = (real)(1.0 - set[ASGD_LAMBD] * eta);
  s->lr = (real)eta;
}

static void begin_others(step *s, int64_t kind, const double *set, mlpq_progress *p, double lr) {
  s->lr = (real)lr;
  switch (kind) {
    case MLPQ_ADADELTA:
      decay_by(s, set[ADADELTA_DECAY], 0, lr);
      s->rule = RULE_ADADELTA;
      s->c[1] = (real)(1.0 - set[ADADELTA_RHO]);
      s->c[2] = (real)set[ADADELTA_RHO];
      s->c[3] = (real)set[ADADELTA_EPS];
      break;
    case MLPQ_ADAGRAD:
      decay_by(s, set[ADAGRAD_DECAY], 0, lr);
      s->rule = RULE_ADAGRAD;
      s->lr = (real)(lr / (1.0 + (double)(p->steps - 1) * set[ADAGRAD_LR_DECAY]));
      s->c[3] = (real)set[ADAGRAD_EPS];
      break;
    case MLPQ_ADAMAX:
      decay_by(s, set[ADAMAX_DECAY], 0, lr);
      begin_averages(s, p, set[ADAMAX_BETA1], set[ADAMAX_BETA2], set[ADAMAX_EPS]);
      s->rule = RULE_ADAMAX;
      s->lr = (real)(lr / (1.0 - p->products[0]));
      break;
    default:
      s->rule = RULE_RPROP;
      for (int i = 0; i < 4; i++) s->c[i] = (real)set[i];
  }
}

static step update_begin(optimizer *o, double lr) {
  step s = {.has_l1 = o->l1 != 0, .l1 = (real)o->l1};
  mlpq_progress *p = &o->progress;
  p->steps++;
  switch (o->optimizer) {
    case MLPQ_SGD: begin_sgd(&s, o->settings, p, lr); break;
    case MLPQ_ADAM: begin_adam(&s, o->settings, p, lr); break;
    case MLPQ_NADAM: begin_nadam(&s, o->settings, p, lr); break;
    case MLPQ_RADAM: begin_radam(&s, o->settings, p, lr); break;
    case MLPQ_RMSPROP: begin_rmsprop(&s, o->settings, lr); break;
    case MLPQ_ASGD: begin_asgd(&s, o, p, lr); break;
    case MLPQ_FORMULA: break;
    default: begin_others(&s, o->optimizer, o->settings, p, lr);
  }
  return s;
}

#endif
