"""Soak test: memory and open files of one worker that trains thousands of small gangs.

    python tests/chaos/soak.py [--minutes N] [--figure FILE.svg]

It uses PostgreSQL and Redis, and samples the worker and its training process every few seconds.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import click
from sqlalchemy import func, select

from mlpq.store import migrate
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from tests.support.installations import SERVICES, Site
from tests.support.services import Postgres, Redis

SAMPLE_SECONDS = 5.0
BATCH = 400  # jobs per submission
AHEAD = 1000  # queued jobs at which submitting pauses


@dataclass(frozen=True)
class Sample:
    """A process at one time: minutes since the start, megabytes of memory, open files."""

    process: str
    minutes: float
    megabytes: float
    files: int


def sample(process: str, pid: int, began: float) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(process, (time.monotonic() - began) / 60, kilobytes / 1024, files)


def feed(site: Site, stop: threading.Event) -> None:
    """Keep jobs queued, alternating between two shapes so that gangs differ."""
    number = 0
    waiting = select(func.count()).select_from(jobs).where(jobs.c.status == "queued")
    while not stop.wait(0.2):
        with site.store.read() as connection:
            if connection.execute(waiting).scalar_one() > AHEAD:
                continue
        shape = ("--hidden", "16", "--optimizer", "adam") if number % 2 else ("--optimizer", "sgd", "--dropout", "0.1")
        site.mlpq(
            "submit", *shape, "--dataset", "digits", "--epochs", 2, "--seeds", f"0..{BATCH - 1}",
            "--experiment", f"soak-{number}", status=None,
        )  # fmt: skip
        number += 1


def soak(minutes: float, site: Site) -> tuple[list[Sample], int]:
    """The samples, and the number of finished jobs."""
    stop = threading.Event()
    feeding = threading.Thread(target=feed, args=(site, stop))
    samples = []
    with contextlib.redirect_stdout(None), site.worker("--gang", "8") as worker:  # its log is long
        feeding.start()
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            time.sleep(SAMPLE_SECONDS)
            (child,) = site.training_processes()
            samples += [sample("worker", worker.pid, began), sample("training process", child.pid, began)]
        stop.set()
        feeding.join()
    with site.store.read() as connection:
        done = select(func.count()).select_from(jobs).where(jobs.c.status == "succeeded")
        return samples, int(connection.execute(done).scalar_one())


def table(samples: list[Sample], minutes: float, done: int) -> str:
    """A table of the second and the last quarter of the time; the first quarter fills caches."""
    lines = [
        f"{minutes:.0f} minutes, {done:,} jobs in gangs of up to 8, at least {done // 8:,} gangs.",
        "",
        "| | second quarter | last quarter | open files, second and last quarter |",
        "|---|---|---|---|",
    ]
    for process in ("worker", "training process"):
        mine = [one for one in samples if one.process == process]
        quarters = [mine[i * len(mine) // 4 : (i + 1) * len(mine) // 4] for i in (1, 3)]
        memory = [f"{statistics.median(one.megabytes for one in quarter):.1f} MB" for quarter in quarters]
        files = [f"{statistics.median(one.files for one in quarter):.0f}" for quarter in quarters]
        lines.append(f"| {process} | {memory[0]} | {memory[1]} | {files[0]}, {files[1]} |")
    return "\n".join(lines)


def draw(samples: list[Sample], file: Path) -> None:
    """Write the memory over time as SVG."""
    import altair

    data = altair.Data(values=[vars(one) for one in samples])
    chart = (
        altair.Chart(data, width=560, height=220)
        .mark_line()
        .encode(
            x=altair.X("minutes:Q", title="minutes", scale=altair.Scale(nice=False)),
            y=altair.Y("megabytes:Q", title="resident memory, MB"),
            color=altair.Color(
                "process:N",
                title=None,
                legend=altair.Legend(orient="top"),
                scale=altair.Scale(range=["#0072b2", "#d55e00"]),
            ),
        )
    )
    chart.save(str(file))


@click.command()
@click.option("--minutes", default=30.0)
@click.option("--figure", type=click.Path(path_type=Path))
def main(minutes: float, figure: Path | None) -> None:
    """Run the soak test and print a table."""
    postgres, redis = Postgres(), Redis()
    try:
        postgres.start()
        redis.start()
        with tempfile.TemporaryDirectory(prefix="mlpq-soak-") as folder:
            store = Store(postgres.url(postgres.create()))
            migrate.upgrade(store)
            env = {"MLPQ_HOME": folder, "MLPQ_DATABASE_URL": store.url, "MLPQ_BROKER_URL": redis.empty_url()}
            samples, done = soak(minutes, Site(SERVICES, Path(folder), store, env))
            store.close()
    finally:
        redis.stop()
        postgres.stop()
    print(table(samples, minutes, done))
    if figure:
        draw(samples, figure)


if __name__ == "__main__":
    main()
