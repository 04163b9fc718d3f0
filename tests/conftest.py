"""What every test leaves as it was."""

from __future__ import annotations

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow keeps its limit for the process, and a photo is decoded with that of its test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
