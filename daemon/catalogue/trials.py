"""What runs graphs that nobody has run before, each as the caller of another process sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon.catalogue.confined import confined
from daemon.catalogue.proposal import chosen_name
from daemon.encode.providers import CPU

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.catalogue.addition import Addition
    from daemon.catalogue.confined import Say
    from daemon.catalogue.installation import Installation
    from daemon.catalogue.measurement import Measurement
    from daemon.catalogue.wishes import Wishes
    from daemon.encode.specs import ModelSpec


def examined(file: Path, wishes: Wishes, cache_dir: Path, say: Say) -> Addition:
    """Return what examining.examine() makes of the graph in `file`; ModelError as there, and when it takes too much."""
    arguments = (file, wishes, cache_dir)
    return cast("Addition", confined(chosen_name(file, wishes), "daemon.catalogue.examining:examine", arguments, say))


def measured(
    spec: ModelSpec, installation: Installation, photos: Sequence[Path], threads: int, say: Say
) -> Measurement:
    """Return what measure.measure() finds out about the model of `spec`; errors as there, ModelError when it takes too much."""
    arguments = (spec, installation, tuple(photos), threads)
    bounded = installation.provider.name == CPU.name
    return cast(
        "Measurement", confined(spec.name, "daemon.catalogue.measure:measure_spec", arguments, say, bounded=bounded)
    )
