"""Decoders as processes: the same photos, and whatever ends one of them costs one photo at most."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image

from daemon.encode.decoding.decoders import Decoders, Limits
from daemon.encode.decoding.process import Decoder, Ended, TimedOut
from daemon.encode.decoding.protocol import HELLO, REPLY
from daemon.encode.images import decode
from daemon.errors import DecoderError, PhotoError
from tests.drills.photos import photo

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
LIMITS = Limits(max_pixels=250_000_000, timeout_seconds=30.0, memory_bytes=2048 * MIB)
ALL = {"limits", "landlock", "seccomp"}


@functools.cache
def picture(name: str, size: tuple[int, int] = (640, 480)) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, name)
    return file.getvalue()


def flat(size: int) -> bytes:
    """Return a small PNG of size x size pixels, which take much longer and more memory than its file."""
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def pool(count: int = 1, limits: Limits = LIMITS) -> Iterator[Decoders]:
    decoders = Decoders(count, limits, warm=count)
    decoders.start()
    try:
        yield decoders
    finally:
        decoders.stop()


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if _decodes(one)]


def _decodes(process: psutil.Process) -> bool:
    try:
        return "daemon.encode.decoding.worker" in process.cmdline()
    except psutil.Error:
        # It has just ended.
        return False


def the_only() -> psutil.Process:
    (only,) = children()
    return only


def copies() -> list[psutil.Process]:
    """Return the copies of the decoders that read photos."""
    found = []
    for process in children():
        with contextlib.suppress(psutil.Error):
            found += process.children()
    return found


def copy_at_work() -> psutil.Process:
    """Return the copy of the only decoder once there is one: the copy before it may just have ended."""
    deadline = time.monotonic() + 10
    while not (found := copies()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found[0]


@pytest.mark.parametrize(
    "name", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "HEIF", "TGA", "PPM", "JPEG2000"]
)
def test_a_photo_is_the_same_as_decoded_in_this_process(name: str) -> None:
    data, path = picture(name), f"/p/a.{name.lower()}"
    expected = decode(data, path, min_side=224, max_pixels=LIMITS.max_pixels)
    with pool() as decoders:
        found = decoders.decode(data, path, min_side=224)
    assert found.image.tobytes() == expected.image.tobytes()
    assert (found.image.size, found.width, found.height) == (expected.image.size, expected.width, expected.height)
    assert (found.format, found.taken_at) == (expected.format, expected.taken_at)


@pytest.mark.parametrize("data", [b"", b"no image", picture("JPEG")[:2000], b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
def test_what_is_no_photo_is_refused_with_the_same_words(data: bytes) -> None:
    with pytest.raises(PhotoError) as expected:
        decode(data, "/p/a.jpg", min_side=224, max_pixels=LIMITS.max_pixels)
    with pool() as decoders, pytest.raises(PhotoError) as found:
        decoders.decode(data, "/p/a.jpg", min_side=224)
    assert (found.value.path, found.value.reason) == (expected.value.path, expected.value.reason)


def test_a_name_that_is_no_unicode_comes_through() -> None:
    path = os.fsdecode(b"/p/\xff.tga")
    with pool() as decoders:
        assert decoders.decode(picture("TGA"), path, min_side=8).format == "TGA"
        with pytest.raises(PhotoError) as caught:
            decoders.decode(b"?", path, min_side=8)
    assert caught.value.path == path


def test_many_threads_share_the_decoders() -> None:
    random = Random(1)
    photos = [photo(random) for _ in range(40)]
    expected = [decode(data, "a.jpg", min_side=64, max_pixels=10**8).image.tobytes() for data in photos]
    with pool(2) as decoders, ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda data: decoders.decode(data, "a.jpg", min_side=64).image.tobytes(), photos)
        assert list(found) == expected
        assert len(children()) == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_somebody_ends_costs_no_photo(how: int) -> None:
    with pool() as decoders:
        decoders.decode(picture("PNG"), "a.png", min_side=8)
        the_only().send_signal(how)
        assert decoders.decode(picture("PNG"), "a.png", min_side=8).width == 640
        assert decoders.replaced == 1


def test_a_file_that_crashes_its_decoder_twice_is_refused_and_the_next_is_not() -> None:
    ends = threading.Event()

    def end_all() -> None:
        while not ends.is_set():
            for process in copies():
                # Once it is at work, and not while it waits.
                with contextlib.suppress(psutil.Error):
                    if process.cpu_times().user > 0.2:
                        process.send_signal(signal.SIGSEGV)
            ends.wait(0.01)

    with pool() as decoders:
        killer = threading.Thread(target=end_all)
        killer.start()
        try:
            with pytest.raises(
                PhotoError, match=r"it made its decoder crash \(SIGSEGV\); the file is damaged, or means"
            ):
                decoders.decode(flat(12_000), "a.png", min_side=8)
        finally:
            ends.set()
            killer.join()
        assert decoders.decode(picture("PNG"), "a.png", min_side=8).width == 640


def test_what_takes_too_long_is_ended_by_the_kernel() -> None:
    with pool() as decoders:
        decoders.decode(picture("PNG"), "a.png", min_side=8)
        decoders.limits = Limits(LIMITS.max_pixels, 0.05, LIMITS.memory_bytes)
        slow, began = flat(12_000), time.monotonic()
        with pytest.raises(PhotoError, match=r"longer than 0\.05 seconds, more than limits\.decode_timeout_seconds"):
            decoders.decode(slow, "a.png", min_side=8)
        assert time.monotonic() - began < 1.5
        decoders.limits = LIMITS
        assert decoders.decode(picture("PNG"), "a.png", min_side=8).width == 640


def test_a_decoder_that_is_stopped_is_ended_from_here() -> None:
    with pool() as decoders:
        decoders.decode(picture("PNG"), "a.png", min_side=8)
        copy_at_work().suspend()
        decoders.limits = Limits(LIMITS.max_pixels, 0.1, LIMITS.memory_bytes)
        with pytest.raises(PhotoError, match="took longer"):
            decoders.decode(picture("PNG"), "a.png", min_side=8)
        decoders.limits = LIMITS
        assert decoders.decode(picture("PNG"), "a.png", min_side=8).width == 640


def test_a_photo_that_takes_more_memory_than_allowed_is_refused_and_the_next_is_not() -> None:
    with pool(limits=Limits(10**9, 30.0, 256 * MIB)) as decoders:
        with pytest.raises(PhotoError, match=r"more memory than limits\.decode_memory_mebibytes allows"):
            decoders.decode(flat(12_000), "a.png", min_side=8)
        assert decoders.decode(picture("PNG"), "a.png", min_side=8).width == 640


def test_a_file_that_takes_more_memory_than_allowed_before_it_is_looked_at_is_refused_alike() -> None:
    with pool(limits=Limits(10**8, 30.0, 256 * MIB)) as decoders:
        with pytest.raises(PhotoError, match=r"more memory than limits\.decode_memory_mebibytes allows"):
            decoders.decode(picture("PNG") + bytes(300 * MIB), "a.png", min_side=8)
        assert decoders.decode(picture("PNG"), "a.png", min_side=8).width == 640


@pytest.mark.parametrize("name", ["lab.tiff", "thumbnail.xv"])
def test_what_pillow_learns_late_or_names_oddly_is_decoded_too(name: str) -> None:
    if name == "lab.tiff":
        file = io.BytesIO()
        Image.new("LAB", (40, 30)).save(file, "TIFF")
        data = file.getvalue()
    else:
        data = b"P7 332\n#IMGINFO:40x30\n#END_OF_COMMENTS\n40 30 255\n" + bytes(1200)
    expected = decode(data, name, min_side=8, max_pixels=10**8)
    with pool() as decoders:
        found = decoders.decode(data, name, min_side=8)
    assert (found.image.tobytes(), found.format) == (expected.image.tobytes(), expected.format)


def odd(name: str) -> bytes:
    """Return a small file of a variant that Pillow does not decode rightly."""
    pixels = bytes(range(0, 240, 2)) * 2
    if name == "planar.tif":
        tags = [(256, 10), (257, 4), (258, 16), (259, 1), (262, 2), (277, 3), (278, 4), (284, 2)]
        entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags[:5])
        # Three planes of 80 bytes each.
        entries += struct.pack("<HHII", 273, 4, 3, 8 + 240) + b"".join(
            struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags[5:7]
        )
        entries += struct.pack("<HHII", 279, 4, 3, 8 + 252) + struct.pack("<HHII", 284, 3, 1, 2)
        places = struct.pack("<6I", 8, 88, 168, 80, 80, 80)
        directory = struct.pack("<H", 10) + entries + b"\0" * 4
        return b"II*\0" + struct.pack("<I", 272) + pixels + places + directory
    if name == "deep.psd":
        head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 4, 10, 16, 3)
        return head + b"\0" * 14 + pixels
    if name == "a.fits":
        cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 10, "NAXIS2": 4, "BZERO": 32768}
        text = "".join(f"{key:8}= {value!s:>20}".ljust(80) for key, value in cards.items()) + "END"
        return text.ljust(2880).encode() + pixels
    png = picture("PNG", (10, 4))
    body = b"profile\0\0" + zlib.compress(bytes(3_000_000))
    return (
        png[:33]
        + struct.pack(">I", len(body))
        + b"iCCP"
        + body
        + struct.pack(">I", zlib.crc32(b"iCCP" + body))
        + png[33:]
    )


@pytest.mark.parametrize("name", ["planar.tif", "deep.psd", "a.fits", "profile.png"])
def test_what_readers_beside_pillow_decode_is_decoded_in_confinement(name: str) -> None:
    data = odd(name)
    expected = decode(data, name, min_side=8, max_pixels=10**8)
    assert expected.image.size == (10, 4)
    with pool() as decoders:
        found = decoders.decode(data, name, min_side=8)
    assert (found.image.tobytes(), found.format) == (expected.image.tobytes(), expected.format)


def command(**values: int) -> tuple[str, ...]:
    """Return the command of a decoder with other values for the constants of its module."""
    changes = "".join(f"worker.{name} = {value}; " for name, value in values.items())
    return (sys.executable, "-I", "-c", f"from daemon.encode.decoding import worker; {changes}worker.main()")


@contextlib.contextmanager
def one_decoder(**values: int) -> Iterator[Decoder]:
    decoder = Decoder(LIMITS.memory_bytes, command(**values))
    try:
        decoder.wait_ready()
        yield decoder
    finally:
        decoder.end()


def copy_of(decoder: Decoder) -> int:
    """Return the copy that is to read the next photo, once it is there."""
    deadline = time.monotonic() + 10
    while not (found := psutil.Process(decoder.process).children()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[0].pid


def decoded_by(decoder: Decoder, data: bytes) -> int:
    """Decode a photo, or find that it is none, and return the process that did."""
    reader = copy_of(decoder)
    with contextlib.suppress(PhotoError):
        decoder.decode(data, "/p/a", 8, 10**8, 30.0)
    return reader


def gives_way(decoder: Decoder, process: int) -> bool:
    """Whether another copy follows `process` soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if copy_of(decoder) != process:
            return True
        time.sleep(0.01)
    return False


def test_a_copy_gives_way_after_so_many_photos_and_the_decoder_stays() -> None:
    with one_decoder(PHOTOS_EACH=3) as decoder:
        first = [decoded_by(decoder, picture("PNG")) for _ in range(3)]
        assert len(set(first)) == 1
        assert gives_way(decoder, first[0])
        again = [decoded_by(decoder, picture("PNG")) for _ in range(3)]
        assert len(set(again)) == 1
        assert again[0] not in first


@pytest.mark.parametrize("data", [b"no photo", picture("JPEG")[:2000]], ids=["none", "cut"])
def test_a_copy_gives_way_after_each_photo_that_cannot_be_decoded(data: bytes) -> None:
    with one_decoder() as decoder:
        assert gives_way(decoder, decoded_by(decoder, data))


def test_a_copy_that_has_taken_much_memory_gives_way() -> None:
    with one_decoder(GROWN_BYTES=1) as decoder:
        assert gives_way(decoder, decoded_by(decoder, picture("PNG")))


def test_a_photo_whose_library_needs_a_thread_has_a_copy_for_itself() -> None:
    with one_decoder() as decoder:
        heic, png = picture("HEIF"), picture("PNG")
        first = decoded_by(decoder, png)
        # The copy in place leaves the request to the next one, which takes no other.
        decoded_by(decoder, heic)
        assert gives_way(decoder, first)
        # It may be about to end, as the one that has read the first of these.
        second = decoded_by(decoder, heic)
        assert gives_way(decoder, second)


def test_many_photos_of_all_kinds_in_any_order_come_out_right() -> None:
    kinds = ("JPEG", "HEIF", "PNG", "AVIF", "HEIF", "TIFF", "none", "HEIF")
    expected = {
        name: decode(picture(name), f"a.{name}", min_side=64, max_pixels=10**8).image.tobytes()
        for name in {*kinds} - {"none"}
    }
    order = Random(5).choices(kinds, k=60)
    with pool() as decoders:
        for name in order:
            if name == "none":
                with pytest.raises(PhotoError, match="not an image"):
                    decoders.decode(b"none", "a.none", min_side=64)
            else:
                assert decoders.decode(picture(name), f"a.{name}", min_side=64).image.tobytes() == expected[name]
        assert decoders.replaced == 0


def test_decoders_end_with_the_pool_and_there_are_none_after_that() -> None:
    with pool(2) as decoders:
        decoders.decode(picture("PNG"), "a.png", min_side=8)
        assert len(children()) == 2
    assert children() == []
    with pytest.raises(DecoderError, match="lookaliked is stopping"):
        decoders.decode(picture("PNG"), "a.png", min_side=8)


def test_decoders_outlive_no_daemon_that_is_killed() -> None:
    script = (
        "import sys, time; from daemon.encode.decoding.decoders import Decoders, Limits;"
        "d = Decoders(2, Limits(10**8, 30.0, 2**31), warm=2); d.start();"
        "d.decode(bytes.fromhex(sys.argv[1]), 'a.png', min_side=8); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, picture("PNG", (64, 64)).hex()], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        # The decoders, and a copy of each.
        deadline = time.monotonic() + 30
        while len(decoders := psutil.Process(parent.pid).children(recursive=True)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.kill()
    _, alive = psutil.wait_procs(decoders, timeout=10)
    assert alive == []


# What a decoder can still do

TRIES = {
    "read a file": "open('/etc/passwd').read()",
    "write a file": "open('/tmp/lookalike-confined', 'w')",
    "list a directory": "os.listdir('/')",
    "make a directory": "os.mkdir('/tmp/lookalike-confined')",
    "delete": "os.unlink('/tmp/lookalike-confined')",
    "connect": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "reach a local server": "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
    "start a process": "os.fork()",
    "start a thread": "threading.Thread(target=print).start()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "end another process": "os.kill(os.getppid(), 0)",
    "look into another process": "os.pidfd_open(os.getppid())",
    "make memory that runs": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "give itself more": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
}


@pytest.fixture(scope="module")
def confined() -> dict[str, str]:
    """Return what came of each try, made by a process that has confined itself."""
    script = (
        "import mmap, os, resource, socket, threading; from daemon.encode.decoding.confinement import confine\n"
        f"print(*confine({512 * MIB}))\n"
        f"for name, code in {TRIES!r}.items():\n"
        "    try: exec(code); print(name, 'done', sep='\\t')\n"
        "    except OSError as error: print(name, 'refused', sep='\\t')\n"
        "    except (ValueError, RuntimeError) as error: print(name, 'refused', sep='\\t')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    first, *lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    found = dict(line.split("\t") for line in lines)
    found["by"] = first
    return found


@pytest.mark.parametrize("what", TRIES)
def test_a_confined_process_cannot(confined: dict[str, str], what: str) -> None:
    if "seccomp" not in confined["by"]:
        pytest.skip(f"this kernel confines by {confined['by']} alone")
    assert confined[what] == "refused"


@pytest.mark.parametrize("starts", ["nothing", "threads"])
def test_a_copy_of_a_decoder_starts_no_process_and_only_some_start_a_thread(starts: str) -> None:
    script = (
        "import os, signal, subprocess, threading; from daemon.encode.decoding.confinement import *\n"
        f"by = confine({512 * MIB}, 'processes')\n"
        "parent = os.getpid()\n"
        "if os.fork():\n"
        "    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        f"confine_further(parent, {starts!r})\n"
        "can = []\n"
        "for name, code in {'process': 'os.fork() or os._exit(0)', 'thread': 'threading.Thread(target=int).start()',\n"
        "        'end': 'os.kill(parent, 9)', 'privileges': 'os.wait()'}.items():\n"
        "    try: exec(code); can.append(name)\n"
        "    except (OSError, RuntimeError): pass\n"
        "print(*by, can, flush=True); os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "seccomp" not in done.stdout:
        pytest.skip("this kernel has no filter")
    assert done.stdout.endswith(f"seccomp {['thread'] if starts == 'threads' else []}\n")


@pytest.mark.parametrize("kind", ["read a file", "write a file", "list a directory", "make a directory"])
def test_landlock_alone_denies_files(kind: str) -> None:
    script = (
        "import ctypes, os; from daemon.encode.decoding.confinement import _deny_files\n"
        "libc = ctypes.CDLL(None); libc.prctl(38, 1, 0, 0, 0); _deny_files(libc)\n"
        f"try: {TRIES[kind]}\n"
        "except PermissionError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "Refused" in done.stderr:
        pytest.skip("this kernel has no Landlock")
    assert done.stdout == "refused\n"
    assert not Path("/tmp/lookalike-confined").exists()  # noqa: S108 - what must not be made


def test_decoders_are_confined_by_all_that_this_kernel_has() -> None:
    with pool() as decoders:
        assert decoders.confinement is None
        decoders.decode(picture("PNG"), "a.png", min_side=8)
        assert decoders.confinement is not None
        assert set(decoders.confinement) <= ALL
        status = Path(f"/proc/{the_only().pid}/status").read_text(encoding="ascii")
    assert ("Seccomp:\t2" in status) == ("seccomp" in decoders.confinement)
    assert "NoNewPrivs:\t1" in status


# What comes back is not believed

LIARS = {
    "more pixels than allowed": REPLY.pack(True, 30_000, 30_000, 10, 10, 4, 0) + b"JPEG",
    "no pixels": REPLY.pack(True, 0, 10, 10, 10, 4, 0) + b"JPEG",
    "no size": REPLY.pack(True, 1, 1, 0, 10, 4, 0) + b"JPEG" + b"\0" * 3,
    "a format that is none": REPLY.pack(True, 1, 1, 10, 10, 4, 0) + b"\x1b[2J" + b"\0" * 3,
    "a time that is none": REPLY.pack(True, 1, 1, 10, 10, 4, 4) + b"JPEGnoon" + b"\0" * 3,
    "a time that does not exist": REPLY.pack(True, 1, 1, 10, 10, 4, 19) + b"JPEG9999-99-99T99:99:99" + b"\0" * 3,
    "an endless reason": REPLY.pack(False, 2**32 - 1, 0, 0, 0, 0, 0),
    "nothing more": b"",
}


@pytest.mark.parametrize("what", LIARS)
def test_a_decoder_that_says_what_cannot_be_is_ended(what: str) -> None:
    script = (
        "import os, socket, sys; s = socket.socket(fileno=0)\n"
        f"s.sendall({HELLO.pack(7)!r}); s.recv(100); s.sendall({LIARS[what]!r}); s.shutdown(1); s.recv(1)"
    )
    decoder = Decoder(MIB, (sys.executable, "-c", script))
    try:
        assert decoder.wait_ready() == ("limits", "landlock", "seccomp")
        with pytest.raises(Ended):
            decoder.decode(b"some bytes", "a.jpg", 8, 10**8, 5.0)
        assert not psutil.pid_exists(decoder.process)
    finally:
        decoder.end()


def test_a_header_makes_nobody_take_more_memory_than_arrives() -> None:
    script = (
        "import socket; s = socket.socket(fileno=0)\n"
        f"s.sendall({HELLO.pack(7)!r}); s.recv(100); s.sendall({REPLY.pack(True, 20_000, 10_000, 9, 9, 4, 0) + b'JPEG'!r})\n"
        "s.sendall(bytes(3_000_000)); s.shutdown(1); s.recv(1)"
    )
    decoder = Decoder(MIB, (sys.executable, "-c", script))
    try:
        decoder.wait_ready()
        tracemalloc.start()
        with pytest.raises(Ended):
            decoder.decode(b"some bytes", "a.jpg", 8, 250_000_000, 5.0)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
        decoder.end()


def test_a_decoder_that_says_a_little_from_time_to_time_gets_no_more_time_by_it() -> None:
    script = (
        "import signal, socket, time; s = socket.socket(fileno=0)\n"
        f"s.sendall({HELLO.pack(7)!r}); s.recv(100); s.sendall({REPLY.pack(True, 9, 9, 9, 9, 4, 0) + b'JPEG'!r})\n"
        "while True: s.sendall(b'.'); time.sleep(0.2)"
    )
    decoder = Decoder(MIB, (sys.executable, "-c", script))
    try:
        decoder.wait_ready()
        began = time.monotonic()
        with pytest.raises(TimedOut):
            decoder.decode(b"some bytes", "a.jpg", 8, 10**8, 0.1)
        assert time.monotonic() - began < 5
    finally:
        decoder.end()


def test_a_decoder_that_does_not_start_is_said_to_be_missing() -> None:
    decoder = Decoder(MIB, (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(DecoderError, match="was not ready, and ended with status 3"):
        decoder.wait_ready()
    decoder.end()
    with pytest.raises(DecoderError, match="no such file"):
        Decoder(MIB, ("/nowhere/python",))


def test_a_decoder_inherits_nothing_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program is started in the decoder's place: a decoder that has confined itself shows its descriptors to nobody but root."""
    monkeypatch.setenv("LOOKALIKE_REDIS_URL", "redis://:secret@127.0.0.1")
    inherited = tmp_path / "inherited"
    script = (
        "import json, os\n"
        "def is_open(fd):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: return False\n"
        "    return True\n"
        "found = [[fd for fd in range(4096) if is_open(fd)], list(os.environ)]\n"
        f"with open({str(inherited)!r}, 'w') as file: json.dump(found, file)\n"
    )
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        os.set_inheritable(ours.fileno(), True)
        decoder = Decoder(MIB, (sys.executable, "-I", "-c", script))
        with pytest.raises(DecoderError):
            decoder.wait_ready()
        decoder.end()
    descriptors, variables = json.loads(inherited.read_text())
    assert descriptors == [0, 1, 2]
    assert not {"HOME", "LOOKALIKE_REDIS_URL", "PATH"} & set(variables)
