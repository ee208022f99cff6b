"""A short kill storm; `make chaos` runs a long one."""

from __future__ import annotations

from tests.chaos.storm import Storm


def test_after_a_storm_every_job_has_succeeded_once_with_the_same_weights() -> None:
    report = Storm(jobs=16, kills=5, restarts=1, seed=4, lease=9, workers=2, checkpoint_seconds=0).run()
    print(report.table())
    assert report.flaws == {}
    assert report.jobs >= 16
    assert report.outcomes["succeeded"] == report.jobs
    assert report.resumed > 0
