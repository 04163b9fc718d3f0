"""What every test finds as it was."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

import pytest
from PIL import Image

pytest_plugins = ["tests.namespaces"]

OWN_DIRECTORY = pytest.StashKey[str]()
MAX_PIXELS = Image.MAX_IMAGE_PIXELS


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n logical` has: twice as many as processors, for tests wait for daemons and clocks half of their time."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    """Let no habit of the shell that started the tests decide one of them.

    Processes that tests start hear SIGINT and SIGHUP, which a shell or `nohup` may have their parents ignore. The directories of tests
    have short paths, whatever the user's name: the path of a socket has at most 107 bytes.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            # This process stays deaf to it; a program that it starts gets the default back.
            signal.signal(number, lambda *_: None)
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="la-")
        config.stash[OWN_DIRECTORY] = config.option.basetemp


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the directories of tests only where one failed."""
    own = session.config.stash.get(OWN_DIRECTORY, None)
    if own is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(own, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what only root can do, and give each test Pillow's own limit, which Pillow keeps for the process."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    if (marker := item.get_closest_marker("needs_root")) and os.geteuid() != 0:
        pytest.skip(f"needs root: {marker.args[0]}")
