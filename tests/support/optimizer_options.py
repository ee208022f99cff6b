"""Every option of every optimizer, at a value that has an effect."""

from __future__ import annotations

# Each option at a value other than torch's default, with what it needs to have an effect.
OPTIONS = {
    "adadelta": ("rho=0.8", "eps=0.0001", "weight_decay=0.01"),
    "adagrad": ("lr_decay=0.1", "weight_decay=0.01", "initial_accumulator_value=0.1", "eps=0.001"),
    "adam": (
        "betas=0.8/0.99",
        "eps=0.001",
        "weight_decay=0.01",
        "amsgrad=true",
        "decoupled_weight_decay=true,weight_decay=0.1",
    ),
    "adamax": ("betas=0.8/0.99", "eps=0.001", "weight_decay=0.01"),
    "adamw": ("betas=0.8/0.99", "eps=0.001", "weight_decay=0.1", "amsgrad=true"),
    "asgd": ("lambd=0.01", "alpha=0.5", "t0=2", "weight_decay=0.01"),
    "nadam": (
        "betas=0.8/0.99",
        "eps=0.001",
        "weight_decay=0.01",
        "momentum_decay=0.1",
        "decoupled_weight_decay=true,weight_decay=0.1",
    ),
    "radam": (
        "betas=0.8/0.99",
        "eps=0.001",
        "weight_decay=0.01",
        "decoupled_weight_decay=true,weight_decay=0.1",
    ),
    "rmsprop": ("alpha=0.9", "eps=0.001", "weight_decay=0.01", "momentum=0.9", "centered=true"),
    "rprop": ("etas=0.6/1.3", "step_sizes=0.001/0.02"),
    "sgd": (
        "momentum=0.9",
        "dampening=0.5,momentum=0.9",
        "weight_decay=0.01",
        "nesterov=true,momentum=0.9",
    ),
}
# The same of those that only the plain engine has.
OPTIONS_OF_MATRICES = {
    "adafactor": ("beta2_decay=-0.5", "eps=0.001/0.01", "d=2", "weight_decay=0.1"),
    "muon": (
        "lr=0.02,weight_decay=0.5",
        "momentum=0.8",
        "nesterov=false",
        "ns_coefficients=3/-4/2",
        "eps=0.1",
        "ns_steps=3",
        "match_rms_adamw=true",
        "adamw_lr=0.1",
        "adamw_betas=0.8/0.99",
        "adamw_eps=0.001",
        "adamw_weight_decay=0.5",
    ),
}
# As in a sweep: each optimizer with its defaults, and with each of its options.
OPTIMIZERS_AND_OPTIONS = [
    *OPTIONS,
    *(f"{name}:{option}" for name, options in OPTIONS.items() for option in options),
]
OF_MATRICES_AND_OPTIONS = [
    *OPTIONS_OF_MATRICES,
    *(f"{name}:{option}" for name, options in OPTIONS_OF_MATRICES.items() for option in options),
]
