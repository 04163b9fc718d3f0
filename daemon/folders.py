"""The folders to watch, as they lie on the disk: whether they can be read, and what they overlap with."""

from __future__ import annotations

import fnmatch
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def unusable(folder: Path) -> str:
    """Return why `folder` cannot be read now, or an empty string."""
    try:
        mode = os.stat(folder).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{folder} does not exist"
    except OSError as error:
        return f"{folder} cannot be read by this user: {(error.strerror or str(error)).lower()}"
    if not stat.S_ISDIR(mode):
        return f"{folder} is not a folder"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"{folder} cannot be read by this user"
    return ""


def overlaps(folders: Sequence[Path], own: Mapping[str, Path], ignore: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the index of each folder that overlaps with another one or with a directory of ours, and how.

    `own` are our directories by the key that sets them. What lies below a name that `ignore` matches is not watched.
    """
    real = [Path(os.path.realpath(folder)) for folder in folders]
    ours = {key: Path(os.path.realpath(directory)) for key, directory in own.items()}
    for index, folder in enumerate(folders):
        for key, directory in ours.items():
            sentence = _overlap(folder, real[index], key, directory, ignore)
            if sentence:
                yield index, sentence
        for other in range(len(folders)):
            if real[index] == real[other] and other < index:
                yield index, f"{folder} is named twice"
            elif real[index] != real[other] and real[index].is_relative_to(real[other]):
                yield index, f"{folder} lies inside {folders[other]}, which is watched already"


def _overlap(named: Path, folder: Path, key: str, directory: Path, ignore: Sequence[str]) -> str:
    """Return why a folder and a directory of ours may not lie as they do: nothing may be written under a watched folder."""
    if folder.is_relative_to(directory):
        return f"{named} lies in {key} ({directory}), where lookaliked keeps its own files; watch another folder"
    if directory.is_relative_to(folder):
        inside = directory.relative_to(folder)
        # What is ignored, as hidden directories are by default, holds no watch and no photo.
        if not any(fnmatch.fnmatchcase(part, pattern) for part in inside.parts for pattern in ignore):
            return (
                f"{key} ({directory}) lies inside {named}, where nothing may be written; set {key} to a place outside"
            )
    return ""
