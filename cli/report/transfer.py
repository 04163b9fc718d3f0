"""What an export, an import and a relocation came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import count, size_of
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.answers import ExportAnswer, ImportAnswer, RelocationAnswer


def export_line(answer: ExportAnswer) -> str:
    """Return what is in an export."""
    photos, files = count(answer["photos"], "photo"), count(answer["files"], "file")
    vectors = count(sum(answer["vectors"].values()), "vector")
    return f"{printable(answer['file'])}: {photos} in {files}, {vectors}, {size_of(answer['bytes'])}"


def import_line(answer: ImportAnswer) -> str:
    """Return what an import has brought."""
    vectors = ", ".join(f"{number:,} of {printable(name)}" for name, number in answer["vectors"].items())
    return f"imported: {count(answer['photos'], 'photo')}; new vectors: {vectors or 'none'}"


def import_notices(answer: ImportAnswer) -> Iterator[str]:
    """Yield what became of the files, and what was not used."""
    yield from answer["notes"]
    if answer["bound"]:
        yield f"{count(answer['bound'], 'file')} as exported: known without having been read"
    if answer["known"]:
        yield f"{count(answer['known'], 'file')} known before"
    if answer["kept"]:
        yield f"{count(answer['kept'], 'file')} in folders that are away or empty: kept until they are back (see lookalike deletions)"
    if answer["left"]:
        yield (
            f"{count(answer['left'], 'file')} changed, moved or gone: those that are there are being found "
            "(lookalike sync waits for that)"
        )


def relocation_lines(answer: RelocationAnswer, old: str, new: str) -> Iterator[str]:
    """Yield what a relocation has done, or would do."""
    would = "would be known" if answer["dry_run"] else "known"
    yield f"{answer['moved']:,} of {count(answer['files'], 'file')} {would} below {printable(new)}, without being read"
    if answer["kept"]:
        yield f"{count(answer['kept'], 'missing file')} kept there, as it was decided"
    if answer["failures"]:
        yield f"{count(answer['failures'], 'file')} that could not be indexed {would} as such"
    if answer["changed"]:
        yield f"{count(answer['changed'], 'file')} with another size or mtime there: left to be read by a walk"
    if answer["missing"]:
        yield f"{count(answer['missing'], 'file')} not there: they stay known below {printable(old)}"
