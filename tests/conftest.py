"""What every test finds as it was."""

from __future__ import annotations

import os

import pytest
from PIL import Image

pytest_plugins = ["tests.namespaces"]

MAX_PIXELS = Image.MAX_IMAGE_PIXELS


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n logical` has: more than processors, for a third of the time tests wait for daemons and clocks."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Pillow keeps its limit for the process, and a photo is decoded with that of its test: each begins with Pillow's own."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
