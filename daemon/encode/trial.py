"""What a model must show before its vectors are used: that photos differ, and that a provider computes what the CPU does."""

from __future__ import annotations

import numpy as np
from PIL import Image

from daemon.errors import ModelError

# Kernels of 8 or 16 bits move a vector by some 1e-3 in cosine; a wrong layout or an unsupported operator by far more.
MIN_AGREEMENT = 0.99
# What two runs over the same input may differ by where sums are taken in another order.
_SAME = 1e-6
# No convention's mean: a graph without biases may answer all zero with all zero.
_GRAY = (96, 96, 96)
_SEED = 1
_TILES = 8


def trial_images(side: int) -> list[Image.Image]:
    """Return the photos that every model is tried on, the same each time: gray, coloured tiles, fine noise, a gradient."""
    rng = np.random.default_rng(_SEED)
    tiles = rng.integers(0, 256, (_TILES, _TILES, 3), dtype=np.uint8)
    noise = rng.integers(0, 128, (side, side, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    gradient = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(0)), axis=2)
    return [
        Image.new("RGB", (side, side), _GRAY),
        Image.fromarray(tiles).resize((side, side), Image.Resampling.NEAREST),
        Image.fromarray(noise),
        Image.fromarray(np.ascontiguousarray(gradient)),
    ]


def refuse_constant(name: str, vectors: np.ndarray, subject: str) -> None:
    """Raise ModelError when the vectors [n, dim] of different inputs, photos or texts by `subject`, are all the same."""
    if np.abs(vectors - vectors[0]).max() < _SAME:
        reason = (
            f"it gives every {subject} the same vector; check its spec against how it was trained, or export it again."
        )
        raise ModelError(name, reason)


def refuse_disagreement(name: str, provider: str, vectors: np.ndarray, expected: np.ndarray) -> None:
    """Raise ModelError when the unit vectors [n, dim] of `provider` are not those the CPU computes for the same photos."""
    agreement = float(np.einsum("nd,nd->n", vectors, expected).min())
    if not agreement >= MIN_AGREEMENT:
        reason = (
            f"{provider} computes other vectors than the CPU (cosine {agreement:.3f}, at least {MIN_AGREEMENT} is needed); "
            "configure another provider for it, or other options of this one."
        )
        raise ModelError(name, reason)
