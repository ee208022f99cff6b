"""How jobs, specs and figures read as text, the same in every table, page and message."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import AnyJob, JobRecord, JobResult, WaitingJobs
from mlpq.spec.job import JobSpec
from mlpq.spec.schedules import CONSTANT, SCHEDULES
from mlpq.verification_records import Grade


def short_id(job: str) -> str:
    """The first eight digits of a job id: enough to type in all but huge databases."""
    return job[:8]


def model(spec: JobSpec) -> str:
    """ "MLP 1000,500 relu", or "logistic" without a hidden layer, followed by what is not at its default."""
    name = f"MLP {','.join(map(str, spec.hidden))} {spec.activation}" if spec.hidden else "logistic"
    extras = [] if spec.bias else ["no bias"]
    extras += [] if spec.initialisation == "torch" else [spec.initialisation]
    numbers = (("dropout", spec.dropout), ("l1", spec.l1), ("label smoothing", spec.label_smoothing))
    extras += [f"{key} {number(value)}" for key, value in numbers if value]
    return ", ".join([name, *extras])


def optimizer(spec: JobSpec) -> str:
    """ "sgd lr=0.1 momentum=0.9 schedule=cosine": the rate, and the settings that are not at their defaults."""
    own = spec.own_optimizer
    rate = [f"lr={number(spec.lr)}"] if own is None or own.uses_rate else []
    return " ".join([spec.optimizer, *rate, *_optimizer_settings(spec)])


def optimizer_without_rate(spec: JobSpec) -> str:
    """ "sgd momentum=0.9"."""
    return " ".join([spec.optimizer, *_optimizer_settings(spec)])


def _optimizer_settings(spec: JobSpec) -> list[str]:
    formula, defaults = spec.own_optimizer, spec.optimizer_defaults
    names = formula.constants if formula else spec.optimizer_settings
    settings = {name: spec.optimizer_settings[name] for name in names}
    own = [f"{name}={value_of(value)}" for name, value in settings.items() if value != defaults.get(name)]
    own += [] if spec.schedule == CONSTANT else [f"schedule={schedule(spec)}"]
    own += [f"warmup={number(spec.warmup)}"] if spec.warmup else []
    return own + ([] if spec.clip_norm is None else [f"clip_norm={number(spec.clip_norm)}"])


def schedule(spec: JobSpec) -> str:
    """ "constant", "step:size=10": as it is typed, with the options that are not at their defaults."""
    options = SCHEDULES[spec.schedule]
    own = [f"{name}={value_of(v)}" for name, v in spec.schedule_settings.items() if v != options[name].default]
    return ":".join(filter(None, [spec.schedule, ",".join(own)]))


def data_set(spec: JobSpec, among: Iterable[JobSpec] = ()) -> str:
    """ "wine", or "wine@1a2b3c4d" where other specs `among` these have other content of that name."""
    if spec.content is None or all(other.content == spec.content for other in among if other.dataset == spec.dataset):
        return spec.dataset
    return spec.content.reference(spec.dataset)


def field(name: str, value: object) -> str:
    """ "adam", "lr=0.1", "batch size=32": a field of the spec or an option of an optimizer, as a label."""
    text = value_of(value)
    if name == "formula":
        text = formula_digest(str(value))
    elif name == "dataset":
        text = text.partition("@")[0]
    return text if name in ("optimizer", "dataset", "content", "activation") else f"{field_name(name)}={text}"


def formula_digest(text: str) -> str:
    """The first digits of a formula's SHA-256, which tell formulas of one name apart where there is little space."""
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def field_name(name: str) -> str:
    """ "batch size" for batch_size."""
    return name.replace("_", " ")


def value_of(value: object) -> str:
    """A field's value as it is typed: widths separated by commas, other numbers by slashes; "none" for None or ()."""
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        widths = all(isinstance(part, int) for part in value)
        return (",".join(map(str, value)) if widths else "/".join(map(number, value))) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, (int, float)) else str(value)


def number(value: float) -> str:
    """ "0.1", "1e-05", "0.1234567": short, and different for different numbers."""
    short = str(value) if isinstance(value, int) else f"{value:g}"
    return short if float(short) == value else str(value)


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def count_of(number: int, noun: str) -> str:
    """ "1 job", "3 jobs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def count(correct: int | None, total: int | None) -> str:
    """ "8705 of 10000"; empty for None."""
    return "" if correct is None else f"{correct} of {total}"


def figures(result: JobResult) -> str:
    """ "8705 of 10000 (87.05 %)": the test accuracy."""
    return f"{count(result.test_correct, result.test_total)} ({percent(result.test_accuracy)})"


def percent(fraction: float | None) -> str:
    """ "87.05 %" for 0.8705; empty for None."""
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def mean_and_sd(mean: float, sd: float | None) -> str:
    """ "85.91 ± 0.23", or "85.91" where there is no standard deviation, as for a single seed."""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def seconds(value: float | None) -> str:
    """ "40 ms", "0.4 s", "12 s", "3:05" or "1:02:03"; empty for None."""
    if value is None:
        return ""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age(value: float) -> str:
    """ "12 s", "5 min", "3 h" or "12 d": roughly how long something exists, from seconds."""
    for unit, size, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 2 * 86400)):
        if value < most:
            return f"{max(0, value) / size:.0f} {unit}"
    return f"{value / 86400:.0f} d"


def seeds(values: Sequence[int], at_most: int | None = 8) -> str:
    """ "0..9" for consecutive seeds, else "1,2,5"; no more than `at_most` of a longer list."""
    if len(values) > 2 and list(values) == list(range(values[0], values[0] + len(values))):
        return f"{values[0]}..{values[-1]}"
    shown = values[:at_most]
    return ",".join(map(str, shown)) + (",…" if len(values) > len(shown) else "")


def status(job: AnyJob) -> str:
    """The status, or "diverged" where that is why the job failed."""
    is_diverged = isinstance(job, JobRecord) and job.outcome is Outcome.DIVERGED
    return str(Outcome.DIVERGED if is_diverged else job.status)


def ran_on(result: JobResult) -> str:
    """ "cpu", or "cuda with 2 processes"."""
    return f"{result.device} with {result.world_size} processes" if result.world_size > 1 else result.device


def arithmetic(result: JobResult) -> str:
    """What the bits of a result belong to: "arithmetic 1", or "torch"."""
    return "torch" if result.arithmetic is None else f"arithmetic {result.arithmetic}"


def engine(result: JobResult) -> str:
    """What trained a job: "the kernel (arithmetic 1)", "torch's stacked engine" or "torch's plain engine"."""
    match result.engine:
        case Engine.KERNEL:
            return f"the kernel ({arithmetic(result)})"
        case Engine.GANG:
            return "torch's stacked engine"
        case Engine.PLAIN:
            return "torch's plain engine"


def waiting_for(device: str, world_size: int | None, data: str | None = None) -> str:
    """Which worker has to be started for jobs that request this device and world size, where no live one can run them.

    `device` may be "auto"; `world_size` is the number of processes, None where the worker may choose. `data` is the own
    data set that the live workers lack which could run the jobs otherwise.
    """
    if data is not None:
        return (
            f"waiting for a worker that has the data set {data}; none alive has: mlpq data push {data}, or copy its "
            "file into their MLPQ_DATA_DIR"
        )
    ranks = world_size or 1
    kind = "worker" if device == "auto" else f"{device} worker"
    capable = f" that can run {ranks} processes" if ranks > 1 else ""
    start = "mlpq worker" if device == "auto" else f"mlpq worker --device {device}"
    return f"waiting for a {kind}{capable}; none is alive: {start}"


def jobs_without_worker(waiting: WaitingJobs) -> str:
    """ "4 jobs waiting for a cuda worker; none is alive: …": queued jobs that no live worker can run."""
    return f"{count_of(waiting.jobs, 'job')} {waiting_for(waiting.device, waiting.world_size, waiting.data_name)}"


def status_phrase(status: Status) -> str:
    """The verb of a sentence about a job: "failed", "was cancelled"."""
    return "was cancelled" if status is Status.CANCELLED else str(status)


def grade_text(grade: Grade) -> str:
    """A verification's grade: "same bits"."""
    return grade.replace("_", " ")
