"""Damaged files of both stores: what is damaged is moved aside, said in one sentence, and made again."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import StoreUnavailable
from daemon.index.embedded import EmbeddedMilvus, EmbeddedServer, EmbeddedValkey, ProcessIdentity
from daemon.index.index import Index
from daemon.index.keys import Keys
from daemon.index.mappings import Remove
from daemon.index.vectors import Row
from tests.namespaces import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARY = "damaged"
ONE = Keys(LIBRARY).collection("one", "0f")
WANTED = {f"/p/{n}.jpg": f"photo {n}" for n in range(30)} | {"/p/copy.jpg": "photo 7"}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # linux/prctl.h, linux/capability.h


class Library:
    """Both servers over a directory that can be damaged, and the index in them."""

    def __init__(self, kit: Any, data_dir: Path, runtime_dir: Path) -> None:
        self.kit = kit
        self.photos = kit.photos()
        self.data_dir = data_dir
        self.valkey = EmbeddedValkey(data_dir, runtime_dir)
        self.milvus = EmbeddedMilvus(data_dir, runtime_dir)

    def start(self) -> None:
        self.valkey.start()
        self.milvus.start()

    def stop(self) -> None:
        self.milvus.stop()
        self.valkey.stop()

    @contextlib.contextmanager
    def index(self) -> Iterator[Index]:
        stores = self.kit.stores(self.valkey, self.milvus)
        index = stores.open(LIBRARY)
        yield index
        stores.end_leases()
        index.stop()

    def recover(self, index: Index) -> None:
        """Do what the daemon does after a start: look after the servers until a recovery succeeds."""

        def recovered() -> bool:
            self.valkey.check()
            self.milvus.check()
            try:
                index.recover()
            except StoreUnavailable:
                return False
            return True

        self.kit.eventually(recovered)

    def assert_converges(self) -> list[str]:
        """Bring the index in step with what is wanted; return the calls that Milvus got."""
        with self.index() as index:
            self.recover(index)
            calls: list[str] = []
            recorded = Index(index.mappings, self.kit.recorded(index.vectors, calls.append), index.collections)
            self.kit.converge(recorded, self.photos, WANTED)
            self.kit.assert_in_step(index, self.photos.expected(WANTED))
        return calls

    def aside(self) -> list[str]:
        """Return what was moved aside: the paths below `data_dir`, without the time in them."""
        directories = list(self.data_dir.glob("*.damaged-*"))
        places = {directory: directory.name.partition(".damaged-")[0] for directory in directories}
        return sorted(
            "/".join([places[directory], *path.relative_to(directory).parts])
            for directory in directories
            for path in (
                [directory] if (directory / "LOCK").exists() or places[directory] == "valkey" else leaves(directory)
            )
        )


def leaves(directory: Path) -> list[Path]:
    """Return what lies in a directory: a collection as one, a lone file as itself."""
    collections = list(directory.glob("collections/*"))
    return collections or [path for path in directory.iterdir() if path.is_file()]


@pytest.fixture(scope="module")
def whole(kit: Any) -> Iterator[Path]:
    """A data directory as a kill leaves it: segments, deletions and a log; a snapshot and what was written after it."""
    place = Path(tempfile.mkdtemp(prefix="whole-"))
    library = Library(kit, place / "data", place / "run")
    library.start()
    wanted = list(WANTED.items())
    with library.index() as index:
        index.recover()
        index.commit([library.photos.add(path, content) for path, content in wanted[:20]])
        index.commit([library.photos.add("/p/gone.jpg", "gone")])
        index.vectors.flush()
        index.commit([Remove("/p/gone.jpg"), library.photos.add("/p/gone too.jpg", "gone too")])
        index.vectors.flush()
        index.mappings._redis.bgrewriteaof()
        base = library.data_dir / "valkey" / "appendonlydir"
        kit.eventually(lambda: any(file.stat().st_size > 1000 for file in base.glob("*.base.rdb")))
        index.commit([Remove("/p/gone too.jpg")])
        index.commit([library.photos.add(path, content) for path, content in wanted[20:]])
        for server in (library.milvus, library.valkey):
            kill(kit, server)
    library.stop()
    yield place / "data"
    shutil.rmtree(place)


@pytest.fixture
def library(kit: Any, whole: Path, tmp_path: Path) -> Iterator[Library]:
    # pytest's own directories can be too long for a socket.
    runtime_dir = Path(tempfile.mkdtemp(prefix="stores-"))
    shutil.copytree(whole, tmp_path / "data")
    library = Library(kit, tmp_path / "data", runtime_dir)
    yield library
    library.stop()
    shutil.rmtree(runtime_dir)


def kill(kit: Any, server: EmbeddedServer) -> None:
    assert server.pid is not None
    identity = ProcessIdentity.of(server.pid)
    assert identity is not None
    os.kill(identity.pid, 9)
    kit.eventually(lambda: not identity.running)


def sentences(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def removed(path: Path) -> None:
    path.unlink()


def overwritten(path: Path) -> None:
    """Replace bytes in the middle, as a bad block does."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff\x00nonsense" * 4
    path.write_bytes(content)


def zeros_at_its_end(path: Path) -> None:
    """Blocks that were allocated when the power went, and never written."""
    with path.open("ab") as file:
        file.write(bytes(4096))


def harm(directory: Path, pattern: str, how: Callable[[Path], None]) -> None:
    found = sorted(directory.glob(pattern))
    assert found, pattern
    for path in found:
        how(path)


PARTITION = f"collections/{ONE}/partitions/_default"


@pytest.mark.parametrize(
    ("pattern", "how", "moved"),
    [
        ("aliases.json", torn, "aliases.json"),
        ("aliases.json", emptied, "aliases.json"),
        (f"collections/{ONE}/schema.json", torn, f"collections/{ONE}"),
        (f"collections/{ONE}/schema.json", removed, f"collections/{ONE}"),
        (f"collections/{ONE}/manifest.json*", overwritten, f"collections/{ONE}"),
        (f"{PARTITION}/data/*", torn, f"collections/{ONE}"),
        (f"{PARTITION}/data/*", emptied, f"collections/{ONE}"),
        (f"{PARTITION}/data/*", zeros_at_its_end, f"collections/{ONE}"),
        (f"{PARTITION}/delta/*", torn, f"collections/{ONE}"),
    ],
)
def test_what_is_damaged_of_milvus_is_moved_aside_alone_and_made_again(
    library: Library, caplog: pytest.LogCaptureFixture, pattern: str, how: Callable[[Path], None], moved: str
) -> None:
    harm(library.data_dir / "milvus", pattern, how)
    library.start()
    library.assert_converges()
    assert library.aside() == [f"milvus/{moved}"]
    (said,) = sentences(caplog)
    assert said.startswith(f"milvus: {moved} is damaged (")
    assert str(next(library.data_dir.glob("milvus.damaged-*"))) in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        (f"{PARTITION}/data/*", removed),
        (f"{PARTITION}/delta/*", removed),
        (f"{PARTITION}/indexes/*", torn),
        (f"{PARTITION}/indexes/*", emptied),
        (f"{PARTITION}/indexes/*", removed),
        (f"collections/{ONE}/manifest.json", torn),
        (f"collections/{ONE}/manifest.json*", removed),
        (f"collections/{ONE}/wal/*", removed),
        (f"collections/{ONE}/wal/*", emptied),
        (f"collections/{ONE}/wal/*", overwritten),
        (f"collections/{ONE}/wal/*", zeros_at_its_end),
        ("aliases.json", removed),
    ],
)
def test_what_milvus_passes_over_is_found_by_the_ids_and_made_again(
    library: Library, caplog: pytest.LogCaptureFixture, pattern: str, how: Callable[[Path], None]
) -> None:
    harm(library.data_dir / "milvus", pattern, how)
    library.start()
    library.assert_converges()
    assert library.aside() == []
    assert sentences(caplog) == []


def test_a_collection_whose_making_was_cut_short_is_made_again_without_a_word(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    directory = library.data_dir / "milvus" / "collections" / ONE
    shutil.rmtree(directory)
    directory.mkdir()
    (directory / "schema.json.tmp").write_text("{")
    library.start()
    library.assert_converges()
    assert sentences(caplog) == []


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("*.base.rdb", overwritten),
        ("*.base.rdb", torn),
        ("*.base.rdb", emptied),
        ("*.base.rdb", removed),
        ("*.incr.aof", overwritten),
        ("*.incr.aof", zeros_at_its_end),
        ("*.incr.aof", removed),
        ("*.manifest", overwritten),
        ("*.manifest", torn),
        ("*.manifest", emptied),
        ("*.manifest", removed),
    ],
)
def test_a_damaged_mapping_is_moved_aside_and_made_again_without_encoding(
    library: Library, caplog: pytest.LogCaptureFixture, pattern: str, how: Callable[[Path], None]
) -> None:
    harm(library.data_dir / "valkey" / "appendonlydir", pattern, how)
    library.start()
    assert "upsert" not in library.assert_converges()
    assert library.aside() == ["valkey"]
    (said,) = sentences(caplog)
    assert said.startswith("valkey: its files are damaged (")
    assert "\n" not in said


def test_both_stores_damaged_at_once_are_made_again_from_the_disk(library: Library) -> None:
    harm(library.data_dir / "valkey" / "appendonlydir", "*.manifest", emptied)
    harm(library.data_dir / "milvus", "collections/*/schema.json", emptied)
    library.start()
    library.assert_converges()
    assert library.aside() == [
        *(f"milvus/collections/{Keys(LIBRARY).collection(model, '0f')}" for model in ("one", "two")),
        "valkey",
    ]


def test_damage_that_a_restart_meets_is_mended_while_the_daemon_runs(
    library: Library, caplog: pytest.LogCaptureFixture, kit: Any
) -> None:
    library.start()
    library.assert_converges()
    with library.index() as index:
        library.recover(index)
        assert index.in_order()
        for server in (library.milvus, library.valkey):
            kill(kit, server)
        harm(library.data_dir / "milvus", f"{PARTITION}/data/*", torn)
        harm(library.data_dir / "valkey" / "appendonlydir", "*.incr.aof", overwritten)

        def noticed() -> bool:
            library.valkey.check()
            library.milvus.check()
            try:
                return library.valkey.answers() and library.milvus.answers() and not index.in_order()
            except StoreUnavailable:
                return False

        kit.eventually(noticed)
    library.assert_converges()
    assert len(sentences(caplog)) == 2
    assert library.aside() == [f"milvus/collections/{ONE}", "valkey"]


TAILS = (0, 7, 100, 2000)


@pytest.mark.parametrize("of_milvus", TAILS)
@pytest.mark.parametrize("of_redis", TAILS)
def test_stores_that_lost_the_ends_of_their_logs_are_in_step_again(
    library: Library, of_redis: int, of_milvus: int
) -> None:
    def cut(size: int) -> Callable[[Path], None]:
        return lambda path: os.truncate(path, max(0, path.stat().st_size - size))

    harm(library.data_dir / "valkey" / "appendonlydir", "*.incr.aof", cut(of_redis))
    harm(library.data_dir / "milvus", "collections/*/wal/*", cut(of_milvus))
    library.start()
    library.assert_converges()
    assert library.aside() == []


def test_an_upsert_and_a_removal_that_milvus_lost_are_noticed_though_the_numbers_agree(library: Library) -> None:
    library.start()
    with library.index() as index:
        library.recover(index)
        photos, name = library.photos, index.collections[0].name
        index.vectors.delete(name, [photos.id("photo 1")])
        index.vectors.upsert(name, [Row(photos.id("photo 99"), photos.vector("photo 99"), 0, 1, 1)])
        assert index.vectors.count(name) == index.mappings.count_encoded(name)
    library.assert_converges()


# What is not damage


def as_a_user(work: Callable[[], None]) -> None:
    """Do the work in a thread whose children have no right to files that are closed to them, though they be root's."""
    raised: list[BaseException] = []

    def run() -> None:
        if os.geteuid() == 0:
            for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
                assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def test_a_segment_that_cannot_be_read_is_not_damaged(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    harm(library.data_dir / "milvus", f"{PARTITION}/data/*", lambda path: path.chmod(0))

    def work() -> None:
        library.start()
        with library.index() as index:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="cannot use its files now: permission denied"):
                    index.recover()
            harm(library.data_dir / "milvus", f"{PARTITION}/data/*", lambda path: path.chmod(0o600))
        library.assert_converges()
        library.stop()

    as_a_user(work)
    assert sentences(caplog) == []
    assert library.aside() == []


@pytest.mark.parametrize("pattern", ["aliases.json", f"collections/{ONE}/schema.json"])
def test_names_that_cannot_be_read_are_not_damaged(library: Library, pattern: str) -> None:
    harm(library.data_dir / "milvus", pattern, lambda path: path.chmod(0))

    def work() -> None:
        library.valkey.start()
        with library.index() as index, pytest.raises(StoreUnavailable, match=r"(?i)permission denied"):
            recover_when_started(index)
        library.stop()

    def recover_when_started(index: Index) -> None:
        library.milvus.start()
        index.recover()

    as_a_user(work)
    assert library.aside() == []


@pytest.mark.parametrize("pattern", ["*.base.rdb", "*.incr.aof", "*.manifest"])
def test_a_mapping_that_cannot_be_read_is_not_damaged(library: Library, pattern: str) -> None:
    harm(library.data_dir / "valkey" / "appendonlydir", pattern, lambda path: path.chmod(0))

    def work() -> None:
        with pytest.raises(StoreUnavailable, match="Permission denied"):
            library.valkey.start()

    as_a_user(work)
    assert library.aside() == []
    harm(library.data_dir / "valkey" / "appendonlydir", pattern, lambda path: path.chmod(0o600))
    library.start()
    library.assert_converges()


@pytest.mark.mounts
def test_a_full_disk_is_not_damage(kit: Any, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = tmp_path / "disk"
    runtime_dir = Path(tempfile.mkdtemp(prefix="stores-"))
    library = Library(kit, disk / "data", runtime_dir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mounted(disk, "size=2m"))
        stack.callback(shutil.rmtree, runtime_dir)
        stack.callback(library.stop)
        shutil.copytree(whole, disk / "data")
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        for server in (library.valkey, library.milvus):
            with contextlib.suppress(StoreUnavailable):
                server.start()
        with library.index() as index, pytest.raises(StoreUnavailable):
            index.commit([library.photos.add(f"/p/full {n}.jpg", f"full {n}") for n in range(300)])
        library.stop()
        assert library.aside() == []
        assert sentences(caplog) == []
        filler.unlink()
        library.start()
        library.assert_converges()
