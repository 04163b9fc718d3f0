"""One life of the daemon: its parts are built, started in order, looked after until a signal comes, and stopped in reverse.

The only module that constructs; classes elsewhere take plain values.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import daemon
from daemon import config as configuration
from daemon.catalogue.configured import lacking
from daemon.console import Reporter
from daemon.errors import LookalikeError, QueryError
from daemon.lifecycle import Services, Turns
from daemon.reloading import difference, in_force
from daemon.sdnotify import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from rich.console import Console
    from starlette.applications import Starlette

    from daemon.api.admission import Admission
    from daemon.api.listening import PassedListener
    from daemon.api.server import Server
    from daemon.api.status import Status, Store
    from daemon.api.switch import Switch
    from daemon.catalogue.catalogue import Catalogue
    from daemon.config import Config
    from daemon.encode.decoding.decoders import Decoders
    from daemon.encode.live import LiveModels
    from daemon.encode.models import Model
    from daemon.index.embedded import DataLock
    from daemon.index.index import Index
    from daemon.index.lease import Lease
    from daemon.indexer import Indexer
    from daemon.lifecycle import Service
    from daemon.reloading import Difference
    from daemon.verify.verifier import Verifier
    from daemon.watch.pending import Pending

log = logging.getLogger("lookalike")

TICK_SECONDS = 0.2
QUERY_DECODERS = 2
QUERY_PIXELS = 4 * 2**20
"""The picture of a question comes out of its decoder with at most so many, or as many as the largest model needs."""
LONGEST_SWAP_SECONDS = 300.0
"""After that the service manager may take it that a part which is to stop hangs."""


@dataclass(slots=True)
class _Built:
    """What a reload replaces, and the main loop asks."""

    models: list[Model]
    live: LiveModels
    application: Starlette
    status: Status
    indexer: Indexer
    pending: Pending
    index: Index
    verifier: Verifier


class _GivenUp(BaseException):
    """A signal that ends the daemon came while models were made ready. No handler of errors on the way may take it for one."""


class Daemon:
    """One life of the daemon: `start`, `run` until a signal, `stop`. All three on the main thread.

    A reload, which `read` gives the configuration for, has the stores and the sockets stay, and starts everything else anew: as at a
    start, what was missed meanwhile is found by a walk. Queries that come meanwhile wait.
    """

    def __init__(self, settings: Config, catalogue: Catalogue, console: Console, read: Callable[[], Config]) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._read = read
        self._stores = Services()
        self._parts = Services()
        self._servers = Services()
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reporter = Reporter(console)
        self._manager = ServiceManager()
        self._done_before = 0
        self._gives_up = False
        self._turns = Turns()
        self._reloading = threading.Lock()
        # Of the reloads that signals ask for: one that is under way, and one that will read what has changed since it began.
        self._signalled = threading.Semaphore(2)
        self._swapping = threading.Lock()
        self._swap_began: float | None = None
        self._is_stopping = False
        self._fatal: BaseException | None = None
        # Asked now: a terminal that has hung up is none any more.
        self._is_service = _is_service()
        self._started = time.monotonic()
        self._passed: PassedListener | None = None
        self._lock: DataLock | None = None
        self._built: _Built | None = None
        self._switch: Switch | None = None

    def start(self) -> None:
        """Return when events are watched and queries answered; the first walk is under way then.

        A signal to end cuts the start short: `run` then returns at once.
        """
        settings = self._settings
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup asks that the end of the terminal be ignored, and a script's `&` asks the same of Ctrl-C.
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        self._take_passed_socket()
        self._take_data_dir()
        # They get ready while the models are loaded.
        self._start_decoders(settings)
        self._manager.status("starting: making the models ready", at_once=True)
        try:
            models, live = self._made_ready()
        except _GivenUp:
            return
        if self._is_to_end():
            return
        self._manager.status("starting: opening the stores", at_once=True)
        self._redis, self._milvus = self._start_stores()
        if self._is_to_end():
            return
        self._built = self._start_parts(settings, models, live)
        self._start_servers(self._built.application)
        log.info(
            "lookaliked %s answers at %s; its data is in %s",
            daemon.__version__,
            self._passed.path if self._passed else settings.socket_path,
            settings.data_dir,
        )
        for folder in settings.folders:
            log.info("watching %s", folder.path, extra={"path": str(folder.path)})
        # Modules and models stay until the end: no collection of garbage needs to look at them.
        gc.collect()
        gc.freeze()
        self._manager.ready()

    def _made_ready(self) -> tuple[list[Model], LiveModels]:
        """Return the models, prepared and loaded; _GivenUp where a signal ends the daemon before that."""
        self._gives_up = True
        try:
            if self._is_to_end():
                raise _GivenUp
            models = _prepare(self._settings, self._catalogue)
            return models, _load(models, self._settings)
        finally:
            # A signal that comes later, also after an error, interrupts nothing.
            self._gives_up = False

    def _receive(self, number: int, _: FrameType | None) -> None:
        """Take note of a signal; where the models are still made ready, which may take minutes, leave that at once."""
        # Event.set() in a handler can deadlock with the wait it interrupts; SimpleQueue.put() cannot.
        self._signals.put(number)
        if self._gives_up and self._ends(number):
            self._gives_up = False
            raise _GivenUp

    def _ends(self, number: int) -> bool:
        return number != signal.SIGHUP or not self._is_service

    def _is_to_end(self) -> bool:
        """Whether a signal that ends the daemon waits to be handled."""
        waiting = [self._signals.get() for _ in range(self._signals.qsize())]
        for number in waiting:
            self._signals.put(number)
        return any(map(self._ends, waiting))

    def run(self, *, once: bool) -> None:
        """Wait for a signal, look after the services, and show progress; with `once`, return when the index is up to date."""
        while True:
            try:
                number = self._signals.get(timeout=TICK_SECONDS)
            except queue.Empty:
                if self._look_after() and once:
                    self._report_once()
                    return
                continue
            if number == signal.SIGHUP and self._is_service:
                self._reload_for_signal()
                continue
            log.info("%s: finishing the work in hand", signal.Signals(number).name)
            self._manager.status("stopping: finishing the work in hand", at_once=True)
            return

    def _look_after(self) -> bool:
        """Check that every part is well, and show progress; True when the index is up to date for the first time, or again."""
        if self._fatal is not None:
            raise self._fatal
        finished = False
        is_swapping = self._swap_began is not None
        # While parts are replaced they are neither well nor ill.
        if self._swapping.acquire(blocking=False):
            try:
                for services in (self._stores, self._parts, self._servers):
                    services.check()
                finished = self._report()
            finally:
                self._swapping.release()
            is_swapping = False
        if not is_swapping or time.monotonic() - (self._swap_began or 0) < LONGEST_SWAP_SECONDS:
            self._manager.alive()
        return finished

    def stop(self) -> None:
        """Stop what was started, in reverse; harmless when nothing was."""
        self._manager.stopping()
        self._reporter.close()
        self._is_stopping = True
        with self._swapping:
            pass
        if self._built is not None:
            # From now on, a process that is killed was too slow to stop, which is no photo's fault.
            self._built.indexer.in_hand.end()
            # First, so that the servers do not wait for a verification.
            self._built.verifier.stop()
        for services in (self._servers, self._parts, self._stores):
            services.stop()

    # Reloading

    def reload(self, *, requests: int = 1) -> Difference:
        """Read the configuration again and have it in force; returns what differed. On any thread, as so many requests' doing.

        ConfigError or ModelError when it cannot be used; QueryError when another reload, or what goes through all of the index, is
        under way. Then nothing has changed.
        """
        if not self._reloading.acquire(blocking=False):
            raise QueryError("busy", "another reload is under way; try again when it is done")
        try:
            self._manager.reloading()
            found = self._reload(requests)
        finally:
            self._manager.ready()
            self._reloading.release()
        log.info("the configuration was read again: %s", ", ".join(found.applied) or "nothing has changed")
        if found.restart:
            log.warning("these keys hold after a restart: %s", ", ".join(found.restart))
        return found

    def _reload(self, requests: int) -> Difference:
        assert self._built is not None  # noqa: S101 - for the type checker
        running, built, wanted = self._settings, self._built, self._read()
        settings = in_force(running, wanted)
        configuration.check(settings)
        found = difference(running, wanted)
        # All that takes long, and may fail, while everything goes on.
        models = _prepare(settings, self._catalogue)
        known = [model.version for model in built.models] == [model.version for model in models]
        if known and not found.applied:
            return found
        self._refuse_when_stopping()
        live = built.live if known and settings.encode == running.encode else _load(models, settings)
        with self._turns.take("a reload"), self._swapping:
            self._refuse_when_stopping()
            self._swap_began = time.monotonic()
            try:
                self._swap(settings, models, live, requests)
            finally:
                self._swap_began = None
        if not known and "models" not in found.applied:
            found = found._replace(applied=(*found.applied, "models"))
        return found

    def _refuse_when_stopping(self) -> None:
        if self._is_stopping:
            raise QueryError("unavailable", "lookaliked is stopping")

    def _swap(self, settings: Config, models: list[Model], live: LiveModels, requests: int) -> None:
        """Replace the parts; where new ones cannot be started, the old ones are again, and where they cannot the daemon ends."""
        assert self._built is not None  # noqa: S101 - for the type checker
        assert self._switch is not None  # noqa: S101 - as above
        before = self._built
        with self._switch.held(requests):
            try:
                self._replace(settings, models, live)
            except Exception:
                log.exception("the new configuration cannot be put in force; the one before it is")
                self._restore(before)
                raise
            self._settings = settings
        logging.getLogger().setLevel(settings.log.level.upper())

    def _restore(self, before: _Built) -> None:
        try:
            self._replace(self._settings, before.models, before.live)
        except Exception as error:
            self._fatal = error
            raise

    def _replace(self, settings: Config, models: list[Model], live: LiveModels) -> None:
        assert self._built is not None  # noqa: S101 - for the type checker
        assert self._switch is not None  # noqa: S101 - as above
        self._parts.stop()
        self._start_decoders(settings)
        done = (self._built.indexer.encoded, self._built.indexer.committed)
        self._built = self._start_parts(settings, models, live, done)
        self._switch.to(self._built.application)

    def _reload_for_signal(self) -> None:
        """Reload on a thread of its own, now or as soon as it can be: whoever sends a signal gets no answer."""
        if self._signalled.acquire(blocking=False):
            threading.Thread(target=self._reload_when_possible, name="reload", daemon=True).start()

    def _reload_when_possible(self) -> None:
        try:
            while not self._is_stopping:
                try:
                    self.reload(requests=0)
                except QueryError as error:
                    if error.code != "busy":
                        raise
                    log.info("the configuration is read again a little later: %s", error)
                    self._wait_for_turn()
                else:
                    return
        except LookalikeError as error:
            log.error("the configuration stays as it was: %s", error)  # noqa: TRY400 - a sentence for a person
        # The thread's boundary: where not even the parts of before could be started again, `_restore` has said so.
        except Exception as error:
            log.exception("the configuration stays as it was: %s", error)  # noqa: TRY401 - the page of troubles has it so
        finally:
            self._signalled.release()

    def _wait_for_turn(self) -> None:
        while (self._reloading.locked() or not self._turns.are_free) and not self._is_stopping:
            time.sleep(TICK_SECONDS)

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
        """Start the embedded servers that the configuration does not replace, and take the lease of the library."""
        from daemon.api.status import Store  # noqa: PLC0415
        from daemon.index.data_dir import DataDir  # noqa: PLC0415
        from daemon.index.embedded import EmbeddedMilvus, EmbeddedServer, EmbeddedValkey  # noqa: PLC0415
        from daemon.index.mappings import shown  # noqa: PLC0415

        settings = self._settings
        servers: list[EmbeddedServer] = []
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
        assert self._lock is not None  # noqa: S101 - for the type checker
        # The first to be checked, so that no store starts on lost files before the daemon has its lock again.
        self._stores.start(DataDir(settings.data_dir, self._lock, servers))
        for server in servers:
            self._stores.start(server)
        # Behind the stores: it is given back after every writer has stopped, and before its server stops.
        self._lease = _lease(settings, redis)
        self._stores.start(self._lease)
        return redis, milvus

    def _start_decoders(self, settings: Config) -> None:
        """Start what is ended last of the parts, because what is being read needs it."""
        self._decoders = _decoders(settings, _threads(settings), warm=_threads(settings))
        # A question does not wait for a photo that is indexed.
        self._query_decoders = _decoders(settings, QUERY_DECODERS, warm=1, returned_pixels=QUERY_PIXELS)
        for decoders in (self._decoders, self._query_decoders):
            self._parts.start(decoders)

    def _start_servers(self, application: Starlette) -> None:
        from daemon.api.switch import Switch  # noqa: PLC0415 - imported when it is needed, not for --help

        self._switch = Switch(application)
        for server in _servers(self._switch, self._settings, self._passed):
            self._servers.start(server)

    def _start_parts(
        self, settings: Config, models: list[Model], live: LiveModels, done: tuple[int, int] = (0, 0)
    ) -> _Built:
        """Build and start what a reload replaces; `done` are the photos encoded and the changes committed before."""
        from daemon.api import app as routes  # noqa: PLC0415
        from daemon.api.queries import Queries  # noqa: PLC0415
        from daemon.api.reload import Reloads  # noqa: PLC0415
        from daemon.api.status import Status  # noqa: PLC0415
        from daemon.api.transfers import Transfers  # noqa: PLC0415
        from daemon.api.upkeep import Upkeep  # noqa: PLC0415
        from daemon.encode.images import EXTENSIONS  # noqa: PLC0415
        from daemon.in_hand import InHand  # noqa: PLC0415
        from daemon.index.search import Search  # noqa: PLC0415
        from daemon.indexer import Indexer  # noqa: PLC0415
        from daemon.transfer.exporter import Exporter  # noqa: PLC0415
        from daemon.transfer.forgetting import Forgetting  # noqa: PLC0415
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

        redis, milvus = self._redis, self._milvus
        index = _build_index(settings, models, live, redis, milvus, self._lease)
        # At once, so that its connections are closed whatever fails from here on.
        self._parts.start(index)
        settle = Settle(settings.watch.settle_seconds, settings.watch.pause_seconds)
        pending = Pending(settle)
        filters = Filters(settings.watch.ignore, EXTENSIONS)
        watcher = Watcher(
            [(str(folder.path), folder.watch) for folder in settings.folders],
            filters,
            pending,
            Recording(
                below=index.mappings.stream,
                failures=index.mappings.failure_signatures,
                recorded=index.recorded,
                copies=index.copies,
            ),
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
            in_hand=InHand(settings.data_dir),
        )
        indexer.encoded, indexer.committed = done
        status = Status(
            library=settings.library,
            data_dir=str(settings.data_dir),
            index=index,
            indexer=indexer,
            watcher=watcher,
            pending=pending,
            models=live,
            stores=(redis, milvus),
            well_at=lambda: min(services.well_at for services in (self._stores, self._parts, self._servers)),
            started=self._started,
        )
        search = Search(index, watcher.shows)
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
            counting=status.counting,
        )
        turns = self._turns
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
                is_shown=watcher.shows,
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
            more=[
                *Transfers(
                    Exporter(index, settings.library),
                    Importer(index, watcher, filters, indexer),
                    Relocation(index, watcher, indexer),
                    Forgetting(index, watcher),
                    turns,
                ).routes(),
                *Reloads(self.reload).routes(),
            ],
            admission=_admission(settings),
        )
        # The indexer before the watcher, whose first walk may need its queues emptied.
        services: list[Service] = [indexer, watcher, verifier]
        for service in services:
            self._parts.start(service)
        return _Built(models, live, application, status, indexer, pending, index, verifier)

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
            failures = f"; {answer.failures} could not be read (see lookalike failures)" if answer.failures else ""
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
        failures = self._built.index.mappings.failures().values()
        for failure in self._built.status.watched(failures):
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
    from daemon.api.admission import Admission, Admitted, Entitled  # noqa: PLC0415

    api = settings.api
    asks, administers = _groups(settings)
    return Admission(
        Admitted(api.max_concurrent_requests, api.requests_per_second),
        asks=Entitled(asks, configuration.secret(api.token) or None),
        administers=Entitled(administers, configuration.secret(api.admin_token) or None),
    )


def _groups(settings: Config) -> tuple[int | None, int | None]:
    """Return the groups whose members may ask, and may administer."""
    from daemon.api.listening import group_id  # noqa: PLC0415

    api = settings.api
    return (
        None if api.group is None else group_id(api.group, "api.group"),
        None if api.admin_group is None else group_id(api.admin_group, "api.admin_group"),
    )


def _is_service() -> bool:
    """Whether SIGHUP means that the configuration is to be read again, and not that the terminal has gone."""
    if os.environ.get("NOTIFY_SOCKET"):
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return True
    return False


def _servers(application: Switch, settings: Config, passed: PassedListener | None) -> list[Server]:
    """Return what serves the application: on the Unix socket, and on a TCP address where there is one."""
    from daemon.api.listening import TcpListener, UnixListener  # noqa: PLC0415
    from daemon.api.server import TCP_CONNECTIONS, Certificate, Server  # noqa: PLC0415

    api = settings.api
    groups = [group for group in _groups(settings) if group is not None]
    servers = [Server(application, passed or UnixListener(settings.socket_path, *groups))]
    if api.listen is not None:
        certificate = Certificate(api.certificate, api.key) if api.certificate and api.key else None
        listener = TcpListener(*configuration.address(api.listen))
        servers.append(
            Server(application, listener, name="api-tcp", certificate=certificate, max_connections=TCP_CONNECTIONS)
        )
        log.info("lookaliked answers at %s too, who has the token", api.listen)
    return servers


def _decoders(settings: Config, count: int, *, warm: int, returned_pixels: int = 0) -> Decoders:
    from daemon.encode.decoding.decoders import Decoders, Limits  # noqa: PLC0415 - imported when it is needed, not for --help

    limits = settings.limits
    memory_bytes = limits.decode_memory_mebibytes * configuration.MEBIBYTE
    each = Limits(limits.max_pixels, limits.decode_timeout_seconds, memory_bytes, returned_pixels)
    return Decoders(count, each, warm=warm)


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


def _redis_url(settings: Config, redis: Store) -> str:
    # The URL for status has lost its password.
    return settings.redis.url.get_secret_value() if settings.redis.url else redis.url


def _lease(settings: Config, redis: Store) -> Lease:
    from daemon.index.keys import Keys  # noqa: PLC0415
    from daemon.index.lease import TIMEOUT_SECONDS, Lease, Owner  # noqa: PLC0415
    from daemon.index.mappings import Mappings  # noqa: PLC0415

    keys = Keys(settings.library)
    mappings = Mappings(_redis_url(settings, redis), keys, timeout_seconds=TIMEOUT_SECONDS)
    # Only the daemon that holds the lock of `data_dir` reaches the embedded server.
    return Lease(mappings, keys.owner, Owner.here(), alone=redis.server is not None)


def _build_index(
    settings: Config, models: list[Model], live: LiveModels, redis: Store, milvus: Store, lease: Lease
) -> Index:
    from daemon.index.index import Collection, Index  # noqa: PLC0415
    from daemon.index.keys import Keys  # noqa: PLC0415
    from daemon.index.mappings import Mappings  # noqa: PLC0415
    from daemon.index.vectors import Vectors  # noqa: PLC0415

    keys = Keys(settings.library)
    token = settings.milvus.token.get_secret_value() if settings.milvus.token else ""
    mappings = Mappings(_redis_url(settings, redis), keys, lease)
    vectors = Vectors(
        milvus.url,
        token=token,
        index=settings.milvus.index,
        timeout_seconds=settings.milvus.timeout_seconds,
        embedded=milvus.server is not None,
        guard=mappings.check_lease,
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
