"""What the package declares to mlpq. It imports nothing: a submitter needs no torch."""

SLOWSTART = {
    "class": "slowstart.optimizer:Slowstart",
    "lr": 0.1,
    "beta": 0.9,
    "steps": 20,
    "betas": (0.5, 0.9),
    "nesterov": False,
    "weight_decay": 0.0,
}
JITTER = {"class": "slowstart.optimizer:Jitter", "lr": 0.1, "noise": 0.01}
BROKEN_IMPORT = {"class": "slowstart.broken_import:Optimizer", "lr": 0.1}
BROKEN_START = {"class": "slowstart.broken:FailsAtStart", "lr": 0.1}
BROKEN_STEP = {"class": "slowstart.broken:FailsAtStep", "lr": 0.1, "at": 30}
MISDECLARED = {"class": "slowstart.optimizer:Slowstart", "lr": "fast"}
