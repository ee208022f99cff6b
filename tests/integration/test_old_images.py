"""Results of version 0.1.0 say nothing about single test images, and whatever reads them says so."""

from __future__ import annotations

import pytest

from mlpq.store import queries
from mlpq.store.image_queries import images_of
from mlpq.verification import verify
from tests.integration import test_old_database
from tests.support.installations import Site

old_site = test_old_database.old_site


@pytest.mark.timeout(300)
def test_readers_say_that_old_results_have_no_images(old_site: Site) -> None:
    ids = [job.id for job in queries.job_records(old_site.store, "lab")]
    assert images_of(old_site.store, ids) == {}
    failed = old_site.mlpq("errors", "lab", status=2)
    assert "versions before 0.2 did not record which test images a result classifies correctly" in failed.err
    assert "versions before 0.2 did not record it" in old_site.mlpq("compare", "lab", "--by", "optimizer").out
    (pair, *_) = old_site.mlpq("compare", "lab", "--format", "json").json["pairs"]
    assert pair["standard_error_images"] is None
    assert old_site.mlpq("report", "lab", "-o", old_site.folder / "report.html").err == ""
    for case in verify.audit_results(old_site.store, ids, old_site.folder):
        assert (case.audit.misfits, case.audit.unchecked) == (
            [],
            ["which test images it classifies correctly: not recorded, as by versions before 0.2"],
        )
