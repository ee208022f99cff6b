"""Torch's optimizers as formulas, and formulas that have every operation of the grammar."""

from __future__ import annotations

ADAM = "m = b1*m + (1 - b1)*g; v = b2*v + (1 - b2)*g**2; p = p - lr/(1 - b1**t)*m/(sqrt(v)/sqrt(1 - b2**t) + 1e-8)"
# Statements, the constants, and torch's own of the same settings.
LIKE_TORCH = {
    "my-sgd": ("p = p - lr*g", "lr=0.1", "sgd:lr=0.1"),
    "my-momentum": ("m = mu*m + g; p = p - lr*m", "lr=0.1,mu=0.9", "sgd:lr=0.1,momentum=0.9"),
    "my-nesterov": (
        "g = g + wd*p; m = mu*m + g; p = p - lr*(g + mu*m)",
        "lr=0.1,mu=0.9,wd=0.01",
        "sgd:lr=0.1,momentum=0.9,nesterov=true,weight_decay=0.01",
    ),
    "my-adagrad": ("s = s + g**2; p = p - lr*g/(sqrt(s) + 1e-10)", "lr=0.05", "adagrad:lr=0.05"),
    "my-rmsprop": (
        "v = a*v + (1 - a)*g**2; p = p - lr*g/(sqrt(v) + 1e-8)",
        "lr=0.01,a=0.9",
        "rmsprop:lr=0.01,alpha=0.9",
    ),
    "my-adam": (ADAM, "lr=0.01,b1=0.9,b2=0.999", "adam:lr=0.01"),
    "my-adamw": (f"p = p - lr*wd*p; {ADAM}", "lr=0.01,b1=0.9,b2=0.999,wd=0.1", "adamw:lr=0.01,weight_decay=0.1"),
}  # fmt: skip
# Each operation at least once, with norms, a swap of states, and a state that the last statement copies.
EVERY_OPERATION = (
    "scale = min(1, c/max(norm(g), 0.001)); a = tanh(a) + scale*g; b = where(t <= 3, abs(g), exp(-abs(b))); "
    "k = log(1 + abs(g)**1.5) + sign(g)*(g != 0) - (t == 2) + 0.1**t; "
    "step = k*(a >= b)/(1 + sqrt(abs(a))) + (a < b)*0.5*g**3; old = a; a = b; b = old; "
    "p = p - lr*(step + 0.001*max(p, -p)/(norm(p) + 1))"
)


def formula_keys(name: str, statements: str, constants: str) -> dict[str, str]:
    """The keys of a sweep with one formula."""
    return {"formula": f"{name}: {statements}", "optimizer": f"{name}:{constants}" if constants else name}
