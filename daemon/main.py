"""lookaliked: reads the configuration, builds the parts, starts them in order, waits for a signal, stops them in reverse.

The only module that constructs; classes elsewhere take plain values.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import time
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - Typer reads the annotations when a command runs
from typing import TYPE_CHECKING, Annotated

import typer

import daemon
from daemon import config as configuration
from daemon import paths, sdnotify
from daemon.catalogue.configured import complaints as unusable_models
from daemon.catalogue.configured import lacking
from daemon.catalogue.installation import own_catalogue
from daemon.console import LogHandler, Reporter, printable, standard_error
from daemon.errors import ConfigError, LookalikeError, ModelError
from daemon.lifecycle import Services

if TYPE_CHECKING:
    from rich.console import Console

    from daemon.api.status import Status, Store
    from daemon.catalogue.catalogue import Catalogue
    from daemon.config import Config
    from daemon.encode.live import LiveModels
    from daemon.encode.models import Model
    from daemon.index.index import Index
    from daemon.indexer import Indexer
    from daemon.lifecycle import Service
    from daemon.watch.pending import Pending

log = logging.getLogger("lookalike")

EXIT_ERROR = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again will not help."""
TICK_SECONDS = 0.2

app = typer.Typer(
    name="lookaliked",
    help="Keeps a photo library indexed while it changes. Ask it with the command lookalike.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"lookaliked {daemon.__version__}")
        raise typer.Exit


@app.command()
def run(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders to watch, in place of those in the configuration file.",
            show_default=False,
            # What cannot be read is a bad configuration, and not wrong usage: the loaders say so.
            readable=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="The configuration file. (default: ~/.config/lookalike/lookalike.yaml, if it is there)",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A model to describe photos by, in place of those in the configuration file; may be given several times.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Index what is there, report, and exit.")] = False,
) -> None:
    """Index the folders, then keep the index equal to them until stopped (Ctrl-C or SIGTERM)."""
    status = _run(standard_error(), config, tuple(folders or ()), tuple(model or ()), once=once)
    logging.shutdown()
    raise typer.Exit(status)


@app.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(help="The configuration file to check.", readable=False)],
) -> None:
    """Say everything that is wrong with a configuration file; exit 78 when something is."""
    try:
        reading = configuration.read(file, watching=False)
        refusal = reading.refusal(
            [*unusable_models(reading, own_catalogue(file)), *configuration.missing_folders(reading.config)]
        )
        if refusal:
            raise refusal
    except ConfigError as error:
        typer.echo(printable(str(error)), err=True)
        raise typer.Exit(EXIT_CONFIG) from error
    settings = reading.config
    folders = _count(len(settings.folders), "folder") if settings.folders else "folders from the command line alone"
    models = f"model{'' if len(settings.models) == 1 else 's'} {', '.join(settings.models)}"
    typer.echo(printable(f"{file} is good: {folders}, {models}"))


def _run(console: Console, file: Path | None, folders: tuple[Path, ...], models: tuple[str, ...], *, once: bool) -> int:
    """Return the exit status of a daemon's whole life."""
    _log_to(console, logging.INFO)
    if file is None and paths.config_file().exists():
        file = paths.config_file()
    catalogue = own_catalogue(file)
    try:
        settings = _settings(file, folders, models, catalogue)
    except ConfigError as error:
        console.print(printable(str(error)), markup=False, highlight=False, soft_wrap=True)
        return EXIT_CONFIG
    logging.getLogger().setLevel(settings.log.level.upper())
    life = Daemon(settings, catalogue, console)
    try:
        life.start()
        life.run(once=once)
    except (ConfigError, ModelError) as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is meant for a person; there is nothing to trace
        return EXIT_CONFIG
    except LookalikeError as error:
        log.error("%s", error)  # noqa: TRY400 - as above
        return EXIT_ERROR
    except Exception:
        log.exception("lookaliked ends: one of its parts failed")
        return EXIT_ERROR
    finally:
        life.stop()
    return 0


def _settings(file: Path | None, folders: tuple[Path, ...], models: tuple[str, ...], catalogue: Catalogue) -> Config:
    """Return the configuration; ConfigError with everything for which the daemon could not start with it."""
    reading = configuration.read(file, folders, models=models)
    # Somebody is there to mend what they have just typed; a configured disk may come later.
    missing = configuration.missing_folders(reading.config) if folders else []
    refusal = reading.refusal([*unusable_models(reading, catalogue), *missing])
    if refusal:
        raise refusal
    return reading.config


def _log_to(console: Console, level: int) -> None:
    handler = LogHandler(console)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Both say at length what our own errors say in a sentence.
    for name in ("watchdog", "uvicorn", "pymilvus"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Built:
    """What the main loop asks."""

    status: Status
    indexer: Indexer
    pending: Pending
    index: Index


class Daemon:
    """One life of the daemon: `start`, `run` until a signal, `stop`. All three on the main thread."""

    def __init__(self, settings: Config, catalogue: Catalogue, console: Console) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._services = Services()
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reporter = Reporter(console)
        self._lock: object | None = None
        self._built: _Built | None = None

    def start(self) -> None:
        """Return when events are watched and queries answered; the first walk is under way then."""
        settings = self._settings
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup asks that the end of the terminal be ignored.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                # Event.set() in a handler can deadlock with the wait it interrupts; SimpleQueue.put() cannot.
                signal.signal(number, lambda received, _: self._signals.put(received))
        self._take_data_dir()
        models = _prepare(settings, self._catalogue)
        live = _load(models, settings)
        redis, milvus = self._start_stores()
        self._built = self._start_parts(models, live, redis, milvus)
        log.info(
            "lookaliked %s answers at %s; its data is in %s",
            daemon.__version__,
            settings.socket_path,
            settings.data_dir,
        )
        for folder in settings.folders:
            log.info("watching %s", folder.path)
        sdnotify.notify("READY=1")

    def run(self, *, once: bool) -> None:
        """Wait for a signal, look after the services, and show progress; with `once`, return when the index is up to date."""
        while True:
            try:
                number = self._signals.get(timeout=TICK_SECONDS)
            except queue.Empty:
                self._services.check()
                if self._report() and once:
                    self._report_once()
                    return
                continue
            log.info("%s: finishing the work in hand", signal.Signals(number).name)
            return

    def stop(self) -> None:
        """Stop what was started, in reverse; harmless when nothing was."""
        sdnotify.notify("STOPPING=1")
        self._reporter.close()
        self._services.stop()
        if self._built is not None:
            self._built.index.close()

    # Building

    def _take_data_dir(self) -> None:
        from daemon.index.embedded import DataLock  # noqa: PLC0415 - imported when it is needed, not for --help

        lock = DataLock(self._settings.data_dir)
        lock.acquire()
        # Held by the open file until the process ends, however it ends.
        self._lock = lock

    def _start_stores(self) -> tuple[Store, Store]:
        """Start the embedded servers that the configuration does not replace."""
        from daemon.api.status import Store  # noqa: PLC0415
        from daemon.index.embedded import EmbeddedMilvus, EmbeddedValkey  # noqa: PLC0415
        from daemon.index.mappings import shown  # noqa: PLC0415

        settings = self._settings
        servers: list[Service] = []
        if settings.redis.url is None:
            valkey = EmbeddedValkey(settings.data_dir, settings.runtime_dir)
            servers.append(valkey)
            redis = Store("Redis", valkey.url, valkey)
        else:
            redis = Store("Redis", shown(settings.redis.url.get_secret_value()), None)
        if settings.milvus.uri is None:
            lite = EmbeddedMilvus(settings.data_dir, settings.runtime_dir)
            servers.append(lite)
            milvus = Store("Milvus", lite.url, lite)
        else:
            milvus = Store("Milvus", settings.milvus.uri, None)
        for server in servers:
            self._services.start(server)
        return redis, milvus

    def _start_parts(self, models: list[Model], live: LiveModels, redis: Store, milvus: Store) -> _Built:
        from daemon.api import app as routes  # noqa: PLC0415
        from daemon.api.queries import Queries  # noqa: PLC0415
        from daemon.api.server import Server  # noqa: PLC0415
        from daemon.api.status import Status  # noqa: PLC0415
        from daemon.api.upkeep import Upkeep  # noqa: PLC0415
        from daemon.encode.images import EXTENSIONS  # noqa: PLC0415
        from daemon.index.search import Search  # noqa: PLC0415
        from daemon.indexer import Indexer  # noqa: PLC0415
        from daemon.verify.content import OwnBytes  # noqa: PLC0415
        from daemon.verify.verifier import Verifier  # noqa: PLC0415
        from daemon.watch.brake import Brake  # noqa: PLC0415
        from daemon.watch.filters import Filters  # noqa: PLC0415
        from daemon.watch.pending import Pending  # noqa: PLC0415
        from daemon.watch.reconcile import Recording  # noqa: PLC0415
        from daemon.watch.settle import Settle  # noqa: PLC0415
        from daemon.watch.watcher import Watcher  # noqa: PLC0415

        settings = self._settings
        index = _build_index(settings, models, live, redis, milvus)
        settle = Settle(settings.watch.settle_seconds, settings.watch.pause_seconds)
        pending = Pending(settle)
        filters = Filters(settings.watch.ignore, EXTENSIONS)
        watcher = Watcher(
            [(str(folder.path), folder.watch) for folder in settings.folders],
            filters,
            pending,
            Recording(below=index.mappings.stream, failures=index.mappings.failure_signatures),
            index.mappings,
            brake=Brake(settings.watch.max_delete_ratio, settings.watch.max_delete_count),
            rescan_seconds=settings.watch.rescan_seconds,
            poll_seconds=settings.watch.poll_seconds,
            max_pending=settings.watch.max_pending,
        )
        indexer = Indexer(
            index,
            live,
            pending,
            settle,
            watcher,
            threads=_threads(settings),
            batch_photos=settings.encode.batch_photos,
            queue_bytes=settings.encode.queue_mebibytes * configuration.MEBIBYTE,
            max_file_bytes=settings.limits.max_file_bytes,
            max_pixels=settings.limits.max_pixels,
        )
        status = Status(
            library=settings.library,
            data_dir=str(settings.data_dir),
            index=index,
            indexer=indexer,
            watcher=watcher,
            pending=pending,
            models=live,
            stores=(redis, milvus),
        )
        search = Search(index, watcher.is_watched)
        queries = Queries(
            index,
            search,
            live.by_version,
            live.texts,
            watcher.is_unverified,
            text_models=_by_preference(models),
            text_candidates=lambda: _text_candidates(self._catalogue, settings.models_dir),
            max_limit=settings.search.max_limit,
            max_pixels=settings.limits.max_pixels,
        )
        verifier = Verifier(
            index,
            pending,
            watcher,
            filters,
            OwnBytes(
                index,
                search,
                live,
                max_pixels=settings.limits.max_pixels,
                max_limit=settings.search.max_limit,
                is_shown=watcher.is_watched,
            ),
            lambda collection, photo: (
                indexer.backfill.fills(collection.name) or indexer.backfill.has_given_up(collection.version, photo)
            ),
        )
        application = routes.build(
            queries,
            status,
            Upkeep(index, indexer, watcher, pending, status),
            verifier,
            max_bytes=settings.limits.max_file_bytes,
            default_limit=settings.search.limit,
        )
        # The indexer before the watcher, whose first walk may need its queues emptied; the API when it has answers; the verifier
        # last, so that the API does not wait for a verification when it stops.
        for service in (indexer, watcher, Server(application, settings.socket_path), verifier):
            self._services.start(service)
        return _Built(status, indexer, pending, index)

    # Telling

    def _report(self) -> bool:
        """Show progress; True when the index is up to date for the first time, or again after work."""
        assert self._built is not None  # noqa: S101 - for the type checker
        built = self._built
        finished = self._reporter.update(
            done=built.indexer.committed, pending=len(built.pending), idle=built.status.idle
        )
        if finished:
            sdnotify.notify("STATUS=up to date")
        if finished and self._reporter.worth_telling:
            answer = built.status.answer()
            failures = f"; {answer.failures} could not be read (see lookalike status)" if answer.failures else ""
            log.info("up to date: %s in %s%s", _count(answer.photos, "photo"), _count(answer.files, "file"), failures)
        return finished

    def _report_once(self) -> None:
        assert self._built is not None  # noqa: S101 - for the type checker
        indexer = self._built.indexer
        log.info("encoded %d photos; %d changes were written", indexer.encoded, indexer.committed)
        for failure in sorted(self._built.index.mappings.failures().values(), key=lambda one: one.path):
            log.warning("not indexed: %s: %s", failure.path, failure.reason)
        for reason in self._built.status.reasons():
            log.warning("the index may differ from the disk: %s", reason)


def _by_preference(models: list[Model]) -> list[str]:
    """Return the models that understand words, those first that understand sentences."""
    from daemon.encode.specs import Words  # noqa: PLC0415

    able = [model.spec for model in models if model.spec.text]
    return [spec.name for spec in sorted(able, key=lambda spec: isinstance(spec.projection, Words))]


def _text_candidates(catalogue: Catalogue, models_dir: Path) -> dict[str, bool]:
    """Return the models that would understand words, and whether all that each needs is on this machine."""
    specs = [entry.spec for entry in catalogue.entries() if entry.spec is not None and entry.spec.text]
    return {spec.name: not lacking(spec, models_dir) for spec in specs}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _threads(settings: Config) -> int:
    return settings.encode.threads or len(os.sched_getaffinity(0))


def _prepare(settings: Config, catalogue: Catalogue) -> list[Model]:
    from daemon.encode.models import prepare  # noqa: PLC0415

    return [prepare(catalogue.load(name), settings.cache_dir, settings.models_dir) for name in settings.models]


def _load(models: list[Model], settings: Config) -> LiveModels:
    from daemon.encode.live import LiveModels  # noqa: PLC0415
    from daemon.encode.providers import Provider  # noqa: PLC0415

    started = time.monotonic()
    encode = settings.encode
    provider = Provider(encode.provider, encode.provider_options, encode.allow_fallback)
    live = LiveModels(models, settings.cache_dir, provider)
    log.debug("models are ready after %.1f s", time.monotonic() - started)
    return live


def _build_index(settings: Config, models: list[Model], live: LiveModels, redis: Store, milvus: Store) -> Index:
    from daemon.index.index import Collection, Index  # noqa: PLC0415
    from daemon.index.keys import Keys  # noqa: PLC0415
    from daemon.index.mappings import Mappings  # noqa: PLC0415
    from daemon.index.vectors import Vectors  # noqa: PLC0415

    keys = Keys(settings.library)
    # What status shows of a URL has lost its password.
    redis_url = settings.redis.url.get_secret_value() if settings.redis.url else redis.url
    token = settings.milvus.token.get_secret_value() if settings.milvus.token else ""
    mappings = Mappings(redis_url, keys)
    vectors = Vectors(
        milvus.url,
        token=token,
        index=settings.milvus.index,
        timeout_seconds=settings.milvus.timeout_seconds,
        embedded=milvus.server is not None,
    )
    collections = [
        Collection(
            model.spec.name,
            model.version,
            keys.collection(model.spec.name, model.fingerprint),
            keys.alias(model.spec.name),
            model.spec.output.dim,
            model.spec.metric,
        )
        for model in models
    ]
    return Index(mappings, vectors, collections, live)


if __name__ == "__main__":
    main()
