"""What every test runs under: floating-point errors raise, figures need no screen, random examples repeat."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib; subprocesses inherit it

settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def _floating_point_errors_raise() -> Iterator[None]:
    """Overflow, division by zero and invalid operations are bugs; underflow to zero is wanted: deep barriers."""
    with np.errstate(all="raise", under="ignore"):
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the checkout."""
    return Path(__file__).resolve().parents[1]
