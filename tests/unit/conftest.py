"""What tests of the training side share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch set to one thread: the condition under which a job's bits don't depend on its gang."""
    import torch  # not at the top: most unit tests do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
