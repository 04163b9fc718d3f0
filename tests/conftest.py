"""What every test finds as it was."""

from __future__ import annotations

import os
import signal

import pytest
from PIL import Image

pytest_plugins = ["tests.namespaces"]

MAX_PIXELS = Image.MAX_IMAGE_PIXELS


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n logical` has: more than processors, for a third of the time tests wait for daemons and clocks."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_configure() -> None:
    """Let the processes that tests start hear SIGINT, which a shell has its background jobs and their children ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # This process stays deaf to it; a program that it starts gets the default back.
        signal.signal(signal.SIGINT, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what only root can do, and give each test Pillow's own limit, which Pillow keeps for the process."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    if (marker := item.get_closest_marker("needs_root")) and os.geteuid() != 0:
        pytest.skip(f"needs root: {marker.args[0]}")
