"""One life of the daemon: its parts are built, started in order, looked after until a signal comes, and stopped in reverse.

The only module that constructs; classes elsewhere take plain values.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import daemon
from daemon import config as configuration
from daemon.catalogue.configured import lacking
from daemon.console import Reporter
from daemon.lifecycle import Services, Turns
from daemon.sdnotify import ServiceManager

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from starlette.applications import Starlette

    from daemon.api.admission import Admission
    from daemon.api.listening import PassedListener
    from daemon.api.server import Server
    from daemon.api.status import Status, Store
    from daemon.catalogue.catalogue import Catalogue
    from daemon.config import Config
    from daemon.encode.decoding.decoders import Decoders
    from daemon.encode.live import LiveModels
    from daemon.encode.models import Model
    from daemon.index.index import Index
    from daemon.indexer import Indexer
    from daemon.lifecycle import Service
    from daemon.watch.pending import Pending

log = logging.getLogger("lookalike")

TICK_SECONDS = 0.2
QUERY_DECODERS = 2


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
        self._manager = ServiceManager()
        self._done_before = 0
        self._decoders = _decoders(settings, _threads(settings), warm=_threads(settings))
        # A question does not wait for a photo that is indexed.
        self._query_decoders = _decoders(settings, QUERY_DECODERS, warm=1)
        self._passed: PassedListener | None = None
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
        self._take_passed_socket()
        self._take_data_dir()
        # They get ready while the models are loaded; and end last, because what is being read needs them.
        for decoders in (self._decoders, self._query_decoders):
            self._services.start(decoders)
        self._manager.status("starting: making the models ready", at_once=True)
        models = _prepare(settings, self._catalogue)
        live = _load(models, settings)
        self._manager.status("starting: opening the stores", at_once=True)
        redis, milvus = self._start_stores()
        self._built = self._start_parts(models, live, redis, milvus)
        log.info(
            "lookaliked %s answers at %s; its data is in %s",
            daemon.__version__,
            self._passed.path if self._passed else settings.socket_path,
            settings.data_dir,
        )
        for folder in settings.folders:
            log.info("watching %s", folder.path, extra={"path": str(folder.path)})
        self._manager.ready()

    def run(self, *, once: bool) -> None:
        """Wait for a signal, look after the services, and show progress; with `once`, return when the index is up to date."""
        while True:
            try:
                number = self._signals.get(timeout=TICK_SECONDS)
            except queue.Empty:
                self._services.check()
                self._manager.alive()
                if self._report() and once:
                    self._report_once()
                    return
                continue
            log.info("%s: finishing the work in hand", signal.Signals(number).name)
            self._manager.status("stopping: finishing the work in hand", at_once=True)
            return

    def stop(self) -> None:
        """Stop what was started, in reverse; harmless when nothing was."""
        self._manager.stopping()
        self._reporter.close()
        self._services.stop()
        if self._built is not None:
            self._built.index.close()

    # Building

    def _take_passed_socket(self) -> None:
        from daemon.api.listening import passed_socket  # noqa: PLC0415 - imported when it is needed, not for --help

        self._passed = passed_socket(os.environ)

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
        from daemon.api.status import Status  # noqa: PLC0415
        from daemon.api.transfers import Transfers  # noqa: PLC0415
        from daemon.api.upkeep import Upkeep  # noqa: PLC0415
        from daemon.encode.images import EXTENSIONS  # noqa: PLC0415
        from daemon.index.search import Search  # noqa: PLC0415
        from daemon.indexer import Indexer  # noqa: PLC0415
        from daemon.transfer.exporter import Exporter  # noqa: PLC0415
        from daemon.transfer.importer import Importer  # noqa: PLC0415
        from daemon.transfer.relocation import Relocation  # noqa: PLC0415
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
            decode=self._decoders.decode,
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
            well_at=lambda: self._services.well_at,
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
            decode=self._query_decoders.decode,
        )
        turns = Turns()
        verifier = Verifier(
            index,
            pending,
            watcher,
            filters,
            OwnBytes(
                index,
                search,
                live,
                decode=self._decoders.decode,
                max_limit=settings.search.max_limit,
                is_shown=watcher.is_watched,
            ),
            lambda collection, photo: (
                indexer.backfill.fills(collection.name) or indexer.backfill.has_given_up(collection.version, photo)
            ),
            turns=turns,
            is_collecting=lambda: indexer.collects,
        )
        application = routes.build(
            queries,
            status,
            Upkeep(index, indexer, watcher, pending, status),
            verifier,
            max_bytes=settings.limits.max_file_bytes,
            default_limit=settings.search.limit,
            more=Transfers(
                Exporter(index, settings.library),
                Importer(index, watcher, filters, indexer),
                Relocation(index, watcher, indexer),
                turns,
            ).routes(),
            admission=_admission(settings),
        )
        # The indexer before the watcher, whose first walk may need its queues emptied; the API when it has answers; the verifier
        # last, so that the API does not wait for a verification when it stops.
        services: list[Service] = [indexer, watcher, *_servers(application, settings, self._passed), verifier]
        for service in services:
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
        if finished and self._reporter.worth_telling:
            answer = built.status.answer()
            failures = f"; {answer.failures} could not be read (see lookalike status)" if answer.failures else ""
            log.info("up to date: %s in %s%s", count(answer.photos, "photo"), count(answer.files, "file"), failures)
        self._tell_manager(built, finished=finished)
        return finished

    def _tell_manager(self, built: _Built, *, finished: bool) -> None:
        if not self._manager.listens:
            return
        done, pending = built.indexer.committed, len(built.pending)
        if finished:
            built.status.refresh()
        if built.status.idle:
            self._done_before = done
        self._manager.status(built.status.words(done - self._done_before, pending))

    def _report_once(self) -> None:
        assert self._built is not None  # noqa: S101 - for the type checker
        indexer = self._built.indexer
        log.info("encoded %d photos; %d changes were written", indexer.encoded, indexer.committed)
        for failure in sorted(self._built.index.mappings.failures().values(), key=lambda one: one.path):
            about = {"path": failure.path, "kind": failure.kind}
            log.warning("not indexed: %s: %s", failure.path, failure.reason, extra=about)
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


def count(number: int, noun: str) -> str:
    """Return a number with its noun, as sentences have it."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _threads(settings: Config) -> int:
    return settings.encode.threads or len(os.sched_getaffinity(0))


def _admission(settings: Config) -> Admission:
    from daemon.api.admission import Admission, Admitted  # noqa: PLC0415
    from daemon.api.listening import group_id  # noqa: PLC0415

    api = settings.api
    return Admission(
        Admitted(api.max_concurrent_requests, api.requests_per_second),
        group=None if api.group is None else group_id(api.group),
        token=None if api.token is None else api.token.get_secret_value(),
    )


def _servers(application: Starlette, settings: Config, passed: PassedListener | None) -> list[Server]:
    """Return what serves the application: on the Unix socket, and on a TCP address where there is one."""
    from daemon.api.listening import TcpListener, UnixListener, group_id  # noqa: PLC0415
    from daemon.api.server import TCP_CONNECTIONS, Certificate, Server  # noqa: PLC0415

    api = settings.api
    group = None if api.group is None else group_id(api.group)
    servers = [Server(application, passed or UnixListener(settings.socket_path, group))]
    if api.listen is not None:
        certificate = Certificate(api.certificate, api.key) if api.certificate and api.key else None
        listener = TcpListener(*configuration.address(api.listen))
        servers.append(
            Server(application, listener, name="api-tcp", certificate=certificate, max_connections=TCP_CONNECTIONS)
        )
        log.info("lookaliked answers at %s too, who has the token", api.listen)
    return servers


def _decoders(settings: Config, count: int, *, warm: int) -> Decoders:
    from daemon.encode.decoding.decoders import Decoders, Limits  # noqa: PLC0415 - imported when it is needed, not for --help

    limits = settings.limits
    memory_bytes = limits.decode_memory_mebibytes * configuration.MEBIBYTE
    return Decoders(count, Limits(limits.max_pixels, limits.decode_timeout_seconds, memory_bytes), warm=warm)


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
    seconds = time.monotonic() - started
    log.debug("models are ready after %.1f s", seconds, extra={"duration_seconds": seconds})
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
