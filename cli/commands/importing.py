"""lookalike import."""

from collections.abc import Iterator
from typing import Annotated

import typer

from cli import output
from cli.commands.options import AsJson, SilenceSeconds, Socket, connect
from cli.exports import passing
from cli.files import is_regular, streamed
from cli.progress import Downloads
from cli.report.transfer import import_line, import_notices
from daemon.paths import absolute

HELP = """
Take an export into the library, so that its photos need not be encoded.

A file that lies where it was exported, with the same size and mtime, is known at once, and not even read. Others are
found by the next walk, which reads each once and knows it by its content. Vectors of a model that has changed since, or
is not configured, are not used. What the library knows already is left as it is.

With - as FILE it comes from standard input. A file is checked as a whole before anything of it is used.

\b
Examples:
  lookalike import /media/backup/lookalike.export
  lookalike import lookalike.export --moved /home/ann/Pictures=/srv/photos
"""


def take(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export, or - for standard input.")],
    *,
    moved: Annotated[
        list[str] | None,
        typer.Option(
            "--moved",
            metavar="OLD=NEW",
            help="What was exported below OLD lies below NEW here; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: SilenceSeconds = 600,
) -> None:
    pairs = [_pair(one) for one in moved or ()]
    if is_regular(file):
        _check(file)
    with connect(socket, timeout_seconds) as client, Downloads() as progress:
        chunks, size = streamed(file)
        reply = client.import_export(_told(chunks, size, progress), size, pairs)
    if as_json:
        output.as_json(reply)
        return
    output.lines([import_line(reply.answer)])
    for sentence in import_notices(reply.answer):
        output.notice(sentence)


def _pair(moved: str) -> tuple[str, str]:
    # A name may hold an equals sign, and hardly ends with one.
    old, separator, new = moved.partition("=/")
    if not old.startswith("/") or not separator:
        raise typer.BadParameter("--moved takes two absolute paths, as in --moved /home/ann/Pictures=/srv/photos.")
    return absolute(old), absolute(f"/{new}")


def _check(file: str) -> None:
    """Read all of a file; CliError where it is damaged, or not complete."""
    chunks, size = streamed(file)
    with Downloads() as progress:
        for passed in passing(chunks, file):
            progress("checking", passed.bytes, size, f"{passed.photos:,} of {passed.of:,} photos")


def _told(chunks: Iterator[bytes], size: int | None, progress: Downloads) -> Iterator[bytes]:
    sent = 0
    for chunk in chunks:
        yield chunk
        sent += len(chunk)
        progress("importing", sent, size)
