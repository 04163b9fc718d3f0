"""A library that an earlier version made: this one goes on with it, and encodes nothing for it.

Each file in libraries/ is named after the version that made it, with `lookaliked run --once /srv/photos`. It holds `photos` and `data`, the data directory.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

LIBRARIES = sorted((Path(__file__).parent / "libraries").glob("*.zip"))


@pytest.fixture(params=LIBRARIES, ids=lambda path: path.name.removesuffix(".zip"))
def earlier(request: pytest.FixtureRequest, lookalike: Any) -> Any:
    """The library of an earlier version, on a machine that has this one."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(lookalike.root / "unpacked")
    lookalike.folder.rmdir()
    (lookalike.root / "unpacked" / "photos").rename(lookalike.folder)
    lookalike.data_dir.parent.mkdir()
    (lookalike.root / "unpacked" / "data").rename(lookalike.data_dir)
    lookalike.data_dir.chmod(0o700)
    return lookalike


def test_a_library_of_an_earlier_version_is_answered_from_and_nothing_is_encoded(earlier: Any) -> None:
    earlier.start(earlier.folder)
    status = earlier.up_to_date()

    assert (status["photos"], status["files"], status["failures"], status["encoded"]) == (6, 7, 1, 0)
    for name in ("trip/0.jpg", "trip/3.jpg", "dated.jpg", "sign.png"):
        found = earlier.search(earlier.folder / name)["results"][0]
        assert str(earlier.folder / name) in found["paths"]
    assert earlier.asked("search", "a red door")[0] == 0
    assert earlier.asked("verify", "--deep")[0] == 0
