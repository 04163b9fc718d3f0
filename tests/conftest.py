"""What every test finds as it was."""

from __future__ import annotations

import pytest
from PIL import Image

MAX_PIXELS = Image.MAX_IMAGE_PIXELS


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Pillow keeps its limit for the process, and a photo is decoded with that of its test: each begins with Pillow's own."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
