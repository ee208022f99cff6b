"""The learning-rate schedule of a job in its exported script."""

from __future__ import annotations

from mlpq.spec.job import JobSpec
from mlpq.spec.schedules import warmup_batches


def scheduler(spec: JobSpec) -> str:
    """A call that makes torch's scheduler for `optimizer`; it takes a step after each batch.

    Its rates are those of mlpq's engines up to rounding in double precision.
    """
    batches = -(-(spec.data.train - spec.validation_size) // spec.batch_size)
    warmup = warmup_batches(spec.warmup, batches, spec.epochs)
    total = max(1, batches * spec.epochs - warmup)
    if spec.schedule == "one-cycle":
        options = ", ".join(f"{name}={value}" for name, value in spec.schedule_settings.items())
        has_biases = spec.optimizer == "muon" and spec.bias  # whose optimizer has a rate of its own
        most = [spec.lr, spec.optimizer_settings["adamw_lr"]] if has_biases else spec.lr
        made = f"OneCycleLR(optimizer, {most}, {total}, {options}, cycle_momentum=False)"
    else:
        factor = _factor(spec, f"(i - {warmup})" if warmup else "i", batches, total)
        rising = f"(i + 1) / {warmup + 1} if i < {warmup} else " if warmup else ""
        made = f"LambdaLR(optimizer, lambda i: {rising}{factor})"
    return f"optim.lr_scheduler.{made}"


def _factor(spec: JobSpec, batch: str, batches: int, total: int) -> str:
    """An expression for the factor of the learning rate in a batch, which is counted from the end of the warmup."""
    own = spec.schedule_settings
    match spec.schedule:
        case "linear":
            start, end = own["start_factor"], own["end_factor"]
            return f"{start} + ({end} - {start}) * {batch} / {total}"
        case "cosine":
            least = f"{own['eta_min']} / {spec.lr}"
            return f"{least} + (1 - {least}) * math.cos(math.pi / 2 * {batch} / {total}) ** 2"
        case "step":
            return f"{own['gamma']} ** ({batch} // {batches * int(own['size'])})"  # type: ignore[arg-type]
        case "exponential":
            return f"{own['gamma']} ** ({batch} // {batches})"
    return "1"
