"""The stores against themselves and each other: contradictions in Redis, vectors missing and stray, intents left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon.index.audit import Audit, Place
from daemon.verify.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from daemon.index.index import Collection, Index
    from daemon.verify.report import Subject

FEW = 100
"""Vectors that are asked for one by one; of more, all ids are listed."""
INTENT = "intent"


class Contradictions:
    """Finds mapping_broken: what the mapping says in one place and denies in another."""

    def __init__(self, index: Index, is_lost: Callable[[str], bool], stopped: Callable[[], bool]) -> None:
        self._index = index
        self._audit = Audit(index.mappings)
        self._is_lost = is_lost
        self._stopped = stopped

    def suspects(self) -> Iterator[Subject]:
        return iter(self._audit.contradictions(self._stopped))

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        found: dict[Subject, Finding] = {}
        for subject in subjects:
            place = cast("Place", subject)
            if what := self._audit.look(place):
                found[subject] = self._finding(place, what)
        return found

    def _finding(self, place: Place, what: str) -> Finding:
        """Say which files and photos it is about: what else is wrong with them comes of it."""
        paths, photos = self._about(place)
        records = self._index.mappings.files(paths)
        # What is dropped has to be read again from the disk.
        is_safe = not any(record and self._is_lost(path) for path, record in zip(paths, records, strict=True))
        example = f"{place.kind} {place.name}: {what}"
        return Finding("mapping_broken", example, what, tuple(paths), tuple(photos), mendable=is_safe)

    def _about(self, place: Place) -> tuple[list[str], list[int]]:
        if place.kind == "path":
            record = self._index.mappings.files([place.name])[0]
            return [place.name], [record.photo] if record else []
        if place.kind == "photo":
            paths = self._index.mappings.photos([int(place.name)])[0][1]
            return paths, [int(place.name)]
        return [], []

    def mend(self, findings: Mapping[Subject, Finding]) -> Iterator[str]:
        """Drop what leads nowhere; its files are to be looked at again."""
        for subject in findings:
            with self._index.writing:
                paths = self._audit.mend(cast("Place", subject))
            yield from paths


class StoredVectors:
    """Finds vector_missing and vector_stray in every model's collection, and what is recorded of vectors that are not there.

    What is known to be lacking and `owed`, or cannot be read now, is no difference.
    """

    def __init__(self, index: Index, is_lost: Callable[[str], bool], owes: Callable[[Collection, int], bool]) -> None:
        self._index = index
        self._is_lost = is_lost
        self._owes = owes

    def suspects(self) -> Iterator[Subject]:
        for collection in self._index.collections:
            stored = self._index.vectors.ids(collection.name)
            recorded = self._index.mappings.all_encoded(collection.name)
            photos, aside = self._index.mappings.all_photos(), self._index.mappings.aside()
            owed = {photo for photo in photos - recorded - stored if self._owes(collection, photo)}
            yield from ((collection.name, photo) for photo in (stored ^ recorded) | ((stored - aside) ^ photos) - owed)

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        found: dict[Subject, Finding] = {}
        for collection in self._index.collections:
            ids = [int(photo) for name, photo in subjects if name == collection.name]
            # At rest, a photo that is bound has its vector, whatever was about to be written.
            with self._index.writing:
                findings = list(self._look_in(collection, ids))
            found |= {(collection.name, photo): finding for photo, finding in findings}
        return found

    def _look_in(self, collection: Collection, ids: list[int]) -> Iterator[tuple[int, Finding]]:
        mappings, name = self._index.mappings, collection.name
        # Photos that were set aside have vectors and a record of them, and nothing else.
        stored, intents, aside = self._stored(name, ids), mappings.intents(), mappings.aside()
        states = zip(ids, mappings.photos(ids), mappings.known(ids), mappings.encoded(name, ids), strict=True)
        for photo, (_, paths), known, recorded in states:
            is_fine = photo in intents or (photo in aside and (photo in stored) == recorded)
            kind = "" if is_fine else _kind(known, held=bool(paths), stored=photo in stored, recorded=recorded)
            can_be_read = not paths or not all(map(self._is_lost, paths))
            is_known = kind == "vector_missing" and not recorded
            if kind and not (is_known and (not can_be_read or self._owes(collection, photo))):
                example = f"{collection.model}: {paths[0] if paths else photo}"
                evidence = (kind, recorded, *paths)
                yield photo, Finding(kind, example, evidence, tuple(paths), (photo,), mendable=can_be_read)

    def _stored(self, name: str, ids: list[int]) -> set[int]:
        if len(ids) > FEW:
            return self._index.vectors.ids(name)
        return {photo for photo in ids if self._index.vectors.get(name, photo) is not None}

    def mend(self, findings: Mapping[Subject, Finding]) -> Iterator[str]:
        """Have photos encoded that lack a vector, and delete vectors that lack a photo."""
        for collection in self._index.collections:
            name = collection.name
            ids = [subject for subject in findings if subject[0] == name]
            with self._index.writing:
                now = dict(self._look_in(collection, [int(photo) for _, photo in ids]))
                absent = [photo for photo, finding in now.items() if finding.kind == "vector_missing"]
                stray = [photo for photo, finding in now.items() if finding.kind == "vector_stray"]
                owned = [photo for photo in stray if now[photo].paths]
                unowned = [photo for photo in now if photo not in {*absent, *owned}]
                self._index.vectors.delete(name, unowned)
                self._index.mappings.set_encoded(name, present=owned, absent=absent + unowned)
            yield from (path for photo in absent for path in now[photo].paths)


def _kind(known: bool, *, held: bool, stored: bool, recorded: bool) -> str:  # noqa: FBT001
    if known and not held:
        # On its way out, or a contradiction of the mapping.
        return ""
    if known:
        return ("" if recorded else "vector_stray") if stored else "vector_missing"
    if stored:
        return "vector_stray"
    return "mapping_broken" if recorded else ""


class Intents:
    """Finds intent_left: photos that are noted as being written or removed, while nothing is."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def suspects(self) -> Iterator[Subject]:
        return ((INTENT, photo) for photo in self._index.mappings.intents())

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        if not subjects:
            return {}
        with self._index.writing:
            left = self._index.mappings.intents()
        found: dict[Subject, Finding] = {}
        for subject in subjects:
            photo = int(subject[1])
            if photo in left:
                paths = tuple(self._index.mappings.photos([photo])[0][1])
                found[subject] = Finding("intent_left", paths[0] if paths else str(photo), paths, paths, (photo,))
        return found

    def mend(self, findings: Mapping[Subject, Finding]) -> list[str]:
        """Finish them as a start would: photos without a file go, the others are encoded again."""
        if findings:
            self._index.finish_intents()
        return [path for finding in findings.values() for path in finding.paths]
