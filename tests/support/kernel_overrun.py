"""Lets the kernel write beyond the end of an array, which AddressSanitizer must report.

python -m tests.support.kernel_overrun LIBRARY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mlpq_workers.kernel import Generator, build

generator = Generator(build("plain", Path(sys.argv[1])))
order = np.empty(10, np.int64)
generator._draws.permutation(generator.address, 11, order.ctypes.data)
