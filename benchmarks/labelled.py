"""Photos whose classes are known: a folder with one sub-folder per class, copied to where a daemon may watch it."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from blake3 import blake3

from daemon.encode.images import EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Labelled:
    """The class of every file, by its path; and one file of each distinct photo, by its digest."""

    classes: Mapping[str, str]
    photos: Mapping[str, str]

    @cached_property
    def sizes(self) -> Counter[str]:
        """How many distinct photos each class has."""
        return Counter(self.classes[path] for path in self.photos.values())

    def without(self, paths: Collection[str]) -> Labelled:
        """Return the same without some files, which are all that hold their photos."""
        return Labelled(
            {path: name for path, name in self.classes.items() if path not in paths},
            {digest: path for digest, path in self.photos.items() if path not in paths},
        )

    def checked(self) -> Labelled:
        """Return itself; SystemExit where there is nothing to be told apart, or nothing to be found."""
        if len(self.sizes) < 2:
            raise SystemExit("give a folder with a sub-folder of photos for each class, two at least")
        lone = [name for name, size in self.sizes.items() if size < 2]
        if lone:
            raise SystemExit(f"these classes have a single photo, which has none to find: {', '.join(lone)}")
        return self


def copied(source: Path, target: Path, per_class: int | None = None) -> Labelled:
    """Copy the photos of every class, or the first `per_class` by name, and return them.

    A photo that lies in two classes would be right and wrong at once, and is left out.
    """
    files: dict[str, list[Path]] = {}
    for directory in sorted(one for one in source.iterdir() if one.is_dir() and not one.name.startswith(".")):
        found = sorted(file for file in directory.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        for file in found[:per_class]:
            files.setdefault(blake3(file.read_bytes()).hexdigest(), []).append(file)
    classes, photos = {}, {}
    for digest, same in files.items():
        names = {file.relative_to(source).parts[0] for file in same}
        if len(names) > 1:
            print(f"left out, as it is in several classes: {', '.join(map(str, same))}")
            continue
        for file in same:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            classes[str(copy)] = min(names)
            photos[digest] = str(copy)
    return Labelled(classes, photos).checked()
