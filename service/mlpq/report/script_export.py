"""A job as a standalone PyTorch script, without mlpq, for `mlpq export`."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from mlpq import formatting
from mlpq.jobs import Engine
from mlpq.records import JobRecord
from mlpq.report.optimizer_script import imports, optimizer_call, optimizer_classes
from mlpq.report.script_schedule import scheduler
from mlpq.spec.datasets import Dataset
from mlpq.spec.job import ACTIVATIONS, TRUNCATED_NORMAL_SD, JobSpec
from mlpq.text import printable

MODULES = dict(zip(ACTIVATIONS, ("Sigmoid", "ReLU", "Tanh"), strict=True))  # in torch.nn
WIDTH = 100
DIGITS = {"digits.csv": "a0339c30a8a5312a1b6f9e5c719dcce5"}  # its content: one row per image, its label last
LISTED = 6  # hidden layers that get a line each; more are built in a loop

# A line that ends in "#: features" is kept only for a job that has all of these features. A line that begins with "#= "
# is the title of a cell in a notebook, and no line of a script.
BEGINNING = """\
# Job $job of mlpq in plain PyTorch$after_others
# Spec hash $spec_hash
# $recorded
import copy  #: patience
import gzip  #: published
import hashlib  #: located
import json  #: own
import math  #: cosine
import sys  #: located script
from pathlib import Path  #: located
from urllib.request import urlretrieve  #: published

import numpy as np  #: table
import torch
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset$random_split$imports$classes

torch.set_num_threads($threads)  # the last bits depend on it  #: threads
#= Data
FILES = {  # of $dataset, and their MD5 checksums  #: published
$checksums  #: published
}  #: published
URL = "$url"  #: published
roots = [*sys.argv[1:], "data"$roots]  #: located script
roots = ["data"$roots]  # add the folder of your copy  #: located notebook
FILE = "$sha256.safetensors"  # of $dataset, named by its SHA-256  #: own
found = [path for root in roots for path in (Path(root, FILE), Path(root, "own", FILE)) if path.is_file()]  #: own
if not found or hashlib.sha256(found[0].read_bytes()).hexdigest() != FILE[:64]:  #: own
    raise SystemExit(f"{FILE} is in none of {roots}, or damaged: $advice")  #: own
raw = found[0].read_bytes()  #: own
start = 8 + int.from_bytes(raw[:8], "little")  #: own
header = json.loads(raw[8:start])  #: own
scale, arrays = int(header.pop("__metadata__")["scale"]), {}  #: own
for name, array in header.items():  #: own
    begin, end = array["data_offsets"]  #: own
    dtype = {"F32": "<f4", "U8": "u1", "U16": "<u2"}[array["dtype"]]  #: own
    values = np.frombuffer(raw[start + begin : start + end], dtype).reshape(array["shape"])  #: own
    arrays[name] = torch.from_numpy(values.astype("i8" if name.endswith("_y") else values.dtype))  #: own
pairs = ((arrays[f"{part}_x"] / scale, arrays[f"{part}_y"]) for part in ("train", "test"))  #: own
train, test = (TensorDataset(x, y) for x, y in pairs)  #: own
folders = [Path(root, sub) for root in roots for sub in ("", "$torchvision/raw", "$dataset")]  #: images
folders = [Path(root) for root in roots]  #: digits
  #: published
  #: published
def read(name, md5):  # the content, which is downloaded to data where no folder has it  #: published
    for folder in folders:  #: published
        for file in filter(Path.is_file, folder.glob(name.replace("-idx", "?idx") + "*")):  #: published
            raw = file.read_bytes()  #: published
            content = gzip.decompress(raw) if file.suffix == ".gz" else raw  #: published
            if md5 in (hashlib.md5(raw).hexdigest(), hashlib.md5(content).hexdigest()):  #: published
                return content  #: published
    file = Path("data", name + ".gz")  #: published
    if file.exists():  #: published
        raise SystemExit(f"{file} is damaged: remove it")  #: published
    try:  #: published
        file.parent.mkdir(exist_ok=True)  #: published
        urlretrieve(URL + file.name, file)  #: published
    except OSError as error:  #: published
        where = f"in none of {roots}, nor at {URL} ({error})"  #: published
        raise SystemExit(f"{name} is {where}: $advice") from None  #: published
    return read(name, md5)  #: published
  #: published
  #: published
parts = [read(name, md5) for name, md5 in FILES.items()]  #: published
x, test_x = (torch.frombuffer(bytearray(p[16:]), dtype=torch.uint8) for p in parts[::2])  #: images
y, test_y = (torch.frombuffer(bytearray(p[8:]), dtype=torch.uint8) for p in parts[1::2])  #: images
pairs = (x, y), (test_x, test_y)  #: images
train, test = (TensorDataset(x.reshape(len(y), -1) / 255, y.long()) for x, y in pairs)  #: images
rows = torch.from_numpy(np.loadtxt(parts[0].decode().splitlines(), np.float32, delimiter=","))  #: digits
x, y = rows[:, :-1] / 16, rows[:, -1].long()  #: digits
train, test = TensorDataset(x[:$images], y[:$images]), TensorDataset(x[$images:], y[$images:])  #: digits
train, validation = random_split(train, [$kept, $held_out], torch.Generator().manual_seed($seed))  #: validation

#= Model
torch.manual_seed($seed)  # draws the weights$then_dropout
$model
for p in model.parameters():  # weights are matrices, biases are not  #: truncated
    nn.init.trunc_normal_(p, std=$sd, a=-$cut, b=$cut) if p.dim() == 2 else nn.init.zeros_(p)  #: truncated
shuffle = torch.Generator().manual_seed($seed)  # draws the order of the images
#= Training
"""
TRAINING = """\
for layer in model[2::3]:  #: varying_dropout
    layer.p = dropout  #: varying_dropout
best_loss = None  #: patience
for epoch in range(1, $after_last):
    model.train()  #: dropout
    total = 0.0
    for x, y in DataLoader(train, batch_size=$batch_size, shuffle=True, generator=shuffle):
        loss = cross_entropy(model(x), y$smoothing)
        total += loss.item() * len(y)
        loss = loss + $l1 * sum(p.abs().sum() for p in model.parameters())  #: l1
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), $clip_norm)  #: clip
        optimizer.step()
        scheduler.step()  #: schedule
    print(f"epoch {epoch}: train loss {total / len(train):.4f}")
    x, y = validation[:]  #: patience
    with torch.inference_mode():  #: patience
        loss = cross_entropy(model$eval(x), y, reduction="none").double().mean().item()  #: patience
    if ${or_always}best_loss is None or loss < best_loss:  #: patience
        best_epoch, best_loss, best = epoch, loss, copy.deepcopy(model.state_dict())  #: patience
        states = shuffle.get_state(), torch.get_rng_state()  #: continues_from_best
    elif epoch - best_epoch >= $patience:  #: patience
        break  #: patience
model.load_state_dict(best)  #: patience
shuffle.set_state(states[0])  #: continues_from_best
torch.set_rng_state(states[1])  #: continues_from_best dropout
"""
END = """\
#= Test
x, y = test[:]
with torch.inference_mode():
    correct = (model$eval(x).argmax(1) == y).sum().item()
print(f"{correct} of {len(y)} test ${unit}s correct ({correct / len(y):.2%})")
"""


def script(
    job: JobRecord,
    ancestors: Sequence[JobRecord],
    environment: Mapping[str, Any] | None,
    data_dir: Path | None = None,
) -> str:
    """The text of a script that trains the job, after those that it continues from.

    `ancestors` are those jobs as `queries.ancestors` returns them: the parent first, the oldest last. `environment`
    has the facts of the job's last attempt, None where there was none. On the CPU the script reproduces the bits of the
    plain engine, and those of a gang up to rounding. It needs torch and NumPy. It looks for data in the folder that it
    is called with, in `data`, in `data_dir` and where the system's package puts it, and downloads published data sets
    to `data` otherwise. For a job without ancestors it has at most 100 lines, whatever the spec; ancestors add lines
    where their specs differ.
    """
    return "".join(text for _, text in _cells(job, ancestors, environment, data_dir, "script"))


def notebook_cells(
    job: JobRecord,
    ancestors: Sequence[JobRecord],
    environment: Mapping[str, Any] | None,
    data_dir: Path | None = None,
) -> list[tuple[str, str]]:
    """The same as the cells of a notebook: their titles and their code. The first one has no title."""
    return _cells(job, ancestors, environment, data_dir, "notebook")


def _cells(
    job: JobRecord,
    ancestors: Sequence[JobRecord],
    environment: Mapping[str, Any] | None,
    data_dir: Path | None,
    kind: str,
) -> list[tuple[str, str]]:
    """Titles and texts; `kind` is script or notebook."""
    chain = [each.spec for each in (*reversed(ancestors), job)]
    threads = _threads(job, environment)
    features = _features(chain) | {kind} | ({"threads"} if threads else set())
    settings = _settings(chain)
    values = {
        **settings,
        **_values(chain, features),
        **_files(chain[-1].data, data_dir),
        "job": job.id,
        "spec_hash": job.spec_hash,
        "recorded": _wrapped(_recorded(job, environment), "# "),
        "threads": threads,
        "advice": "python {sys.argv[0]} FOLDER" if kind == "script" else "add its folder to roots",
        "smoothing": _smoothing(settings["label_smoothing"]),
        "model": _model(chain[-1], settings["dropout"]),
    }
    template = f"{BEGINNING}{_trainings(chain, settings)}{END}"
    marked = [line.partition("  #: ") for line in template.splitlines()]
    cells: list[tuple[str, list[str]]] = [("", [])]
    for line, _, needed in marked:
        if line.startswith("#= "):
            cells.append((line.removeprefix("#= "), []))
        elif features.issuperset(needed.split()):
            cells[-1][1].append(f"{line}\n")
    return [(title, Template("".join(lines)).substitute(values)) for title, lines in cells]


def _values(chain: Sequence[JobSpec], features: Collection[str]) -> dict[str, object]:
    """What the specs say, by its name in the templates."""
    spec = chain[-1]
    return {
        "after_others": "" if len(chain) == 1 else ", after its ancestors",
        "random_split": ", random_split" if spec.validation else "",
        "imports": imports(chain),
        "classes": optimizer_classes(chain),
        "images": spec.data.train,
        "kept": spec.data.train - spec.validation_size,
        "held_out": spec.validation_size,
        "seed": spec.seed,
        "then_dropout": ", then the dropout" if "dropout" in features else "",
        "eval": ".eval()" if "dropout" in features else "",
        "sd": TRUNCATED_NORMAL_SD,
        "cut": 2 * TRUNCATED_NORMAL_SD,
        "after_last": spec.epochs + 1 if len(chain) == 1 else "epochs + 1",
        "or_always": "patience is None or " if any(one.patience is None for one in chain) else "",
    }


def _files(dataset: Dataset, data_dir: Path | None) -> dict[str, str]:
    """The checksums of the files, of their content where known, and the folders in which mlpq looks for them."""
    sums = DIGITS if dataset.bundled else dataset.md5 or dataset.gz_md5 or {}
    folders = [*([] if data_dir is None else [data_dir]), *dataset.system_dirs]
    return {
        "dataset": dataset.name,
        "sha256": str(dataset.sha256),
        "unit": dataset.unit,
        "checksums": "\n".join(f'    "{name}": "{md5}",' for name, md5 in sums.items()),
        "torchvision": str(dataset.torchvision),
        "url": str(dataset.url),
        "roots": "".join(f", {str(folder)!r}" for folder in folders),
    }


def _features(chain: Sequence[JobSpec]) -> set[str]:
    spec = chain[-1]
    present = {
        "digits": spec.data.bundled,
        "images": spec.data.torchvision is not None,
        "own": spec.data.sha256 is not None,
        "published": spec.data.sha256 is None,
        "located": True,
        "table": spec.data.torchvision is None,
        "validation": spec.validation,
        "truncated": spec.initialisation == "truncated-normal",
        "dropout": any(one.dropout for one in chain),
        "varying_dropout": len({one.dropout for one in chain}) > 1,
        "l1": any(one.l1 for one in chain),
        "clip": any(one.clip_norm for one in chain),
        "schedule": any(one.has_varying_lr for one in chain),
        "cosine": any(one.schedule == "cosine" for one in chain),
        "patience": any(one.patience for one in chain),
        "continues_from_best": any(one.patience for one in chain[:-1]),
    }
    return {name for name, is_present in present.items() if is_present}


def _threads(job: JobRecord, environment: Mapping[str, Any] | None) -> int | None:
    """How many threads trained the job on the CPU: of torch's engines only the plain one uses several.

    None where that is unknown or it was not the CPU.
    """
    if job.result is None or job.result.device != "cpu" or environment is None:
        return None
    threads = environment.get("threads")
    return 1 if job.result.engine is not Engine.PLAIN else threads if isinstance(threads, int) else None


def _recorded(job: JobRecord, environment: Mapping[str, Any] | None) -> str:
    result = job.result
    if result is None or environment is None:
        return f"mlpq has no result of this job: its status is {formatting.status(job)}."
    count = formatting.count(result.test_correct, result.test_total)
    version, torch = (environment.get(name, "(unknown)") for name in ("code_version", "torch"))
    means = f"torch {torch}" if result.engine is not Engine.KERNEL else formatting.engine(result)
    return _comment(f"mlpq {version} with {means} on {result.device}: {count} correct")


def _comment(text: str) -> str:
    """Text from the database as one line, of which no part can become code."""
    return printable(" ".join(text.split()))


def _settings(chain: Sequence[JobSpec]) -> dict[str, object]:
    """The settings of a chain: the value where its jobs agree, otherwise the name, which becomes a parameter."""
    found = {}
    for name in ("batch_size", "l1", "dropout", "clip_norm", "label_smoothing", "patience"):
        values = {getattr(spec, name) for spec in chain}
        found[name] = values.pop() if len(values) == 1 else name
    return found


def _model(spec: JobSpec, dropout: object) -> str:
    """The lines that build the model. Where the jobs of a chain differ in dropout, the training sets it."""
    bias = "" if spec.bias else ", bias=False"
    after = f", nn.{MODULES[spec.activation]}()"
    if dropout:
        after += f", nn.Dropout({'' if dropout == 'dropout' else dropout})"
    if len(spec.hidden) > LISTED:
        lines = [
            f"widths = {list(spec.widths)}",
            "model = nn.Sequential()",
            f"for i in range({len(spec.hidden)}):",
            f"    model.extend([nn.Linear(*widths[i : i + 2]{bias}){after}])",
            f"model.append(nn.Linear(*widths[-2:]{bias}))",
        ]
    else:
        layers = [f"    nn.Linear({inputs}, {outputs}{bias})" for inputs, outputs in itertools.pairwise(spec.widths)]
        lines = ["model = nn.Sequential(", *(f"{layer}{after}," for layer in layers[:-1]), f"{layers[-1]},", ")"]
    return "\n".join(map(_wrapped, lines))


def _trainings(chain: Sequence[JobSpec], settings: Mapping[str, object]) -> str:
    """The training of one job; for several jobs a function, and a call of it for each."""
    is_scheduled = any(spec.has_varying_lr for spec in chain)
    if len(chain) == 1:
        return _steps(chain[0], chain, is_scheduled) + f"\n\n{TRAINING}\n"
    varying = ["epochs", *(name for name, value in settings.items() if value == name)]
    first = ["optimizer", "scheduler"] if is_scheduled else ["optimizer"]
    calls = []
    for spec in chain:
        if is_scheduled:
            calls.append(_steps(spec, chain, is_scheduled))
        arguments = [f"{name}={_argument(name, getattr(spec, name))}" for name in varying]
        own = first if is_scheduled else [optimizer_call(spec, chain)]
        calls.append(_wrapped(f"fit({', '.join([*own, *arguments])})"))
    function = f"def fit({', '.join([*first, *varying])}):\n{textwrap.indent(TRAINING, '    ')}"
    return "\n\n" + function + "\n\n" + "\n".join(calls) + "\n"


def _argument(name: str, value: object) -> str:
    return 'float("inf")' if name == "clip_norm" and value is None else repr(value)


def _smoothing(share: object) -> str:
    return f", label_smoothing={share}" if share else ""


def _steps(spec: JobSpec, chain: Sequence[JobSpec], is_scheduled: bool) -> str:
    """The lines that make the optimizer and, where some job of the chain has a schedule, the scheduler."""
    lines = [
        f"optimizer = {optimizer_call(spec, chain)}",
        *([f"scheduler = {scheduler(spec)}"] if is_scheduled else []),
    ]
    return "\n".join(map(_wrapped, lines))


def _wrapped(text: str, indent: str = "    ") -> str:
    """The text in lines of WIDTH; all but the first begin with `indent`."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
