"""What a request costs in memory: no more than 64 MiB beyond its own bytes while it is answered, and nothing that stays."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from daemon.api import app
from daemon.api.listening import UnixListener
from daemon.api.queries import Queries
from daemon.api.server import Server
from daemon.encode.decoding.decoders import Decoders, Limits
from daemon.index.search import Search
from daemon.life import QUERY_DECODERS, QUERY_PIXELS
from tests.integration.api.conftest import Client, library_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.encode.encoder import Encoder
    from daemon.encode.models import Model
    from daemon.encode.text import TextEncoder
    from daemon.index.index import Index

MIB = 2**20
MAX_BYTES = 256 * MIB
ALLOWED = 64 * MIB
JSON = "application/json"


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def png(width: int, height: int) -> bytes:
    """Return a picture of one colour that is a thousand times as large as its file."""
    packer, row = zlib.compressobj(1), b"\0" + bytes(3 * width)
    rows = max(1, (4 << 20) // len(row))
    data = b"".join(packer.compress(row * min(rows, height - top)) for top in range(0, height, rows)) + packer.flush()
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def asked(*pictures: bytes, slash: str = "/") -> bytes:
    terms = [{"image": base64.b64encode(one).decode()} for one in pictures]
    return json.dumps({"terms": terms}).replace("/", slash).encode()


def memory(process: int | str, key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="ascii"))
    assert found is not None
    return 1024 * int(found[1])


class Measured:
    """A server in this process, whose memory is measured around a request."""

    def __init__(self, client: Client, decoders: Decoders) -> None:
        self._client = client
        self._decoders = decoders

    def ask(self, body: bytes, kind: str = JSON, target: str = "/v1/search") -> tuple[int, int]:
        """Return the status of an answer, and by how many bytes this process was larger at its largest than before."""
        # 5 resets the peak: proc(5).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = memory("self", "VmRSS")
        status, _ = self._client("POST", target, body, kind)
        return status, memory("self", "VmHWM") - before

    def kept(self) -> int:
        """Return the memory of this process and of the decoders that it holds."""
        decoders = [decoder.process for decoder in self._decoders._all]
        own = memory("self", "VmRSS")
        return own + sum(memory(process, "VmRSS") for process in decoders)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    one = Decoders(QUERY_DECODERS, Limits(250_000_000, 30, 4 << 30, QUERY_PIXELS), warm=1)
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def measured(
    stores: Any, models: dict[str, Model], encoders: list[Encoder], texts: dict[str, TextEncoder], decoders: Decoders
) -> Iterator[Measured]:
    directory = Path(tempfile.mkdtemp(prefix="api-"))
    index: Index = library_of(stores, list(models.values()))
    index.recover()
    queries = Queries(
        index,
        Search(index, lambda _: True),
        {version: encoder for encoder in encoders for version in encoder.versions},
        texts,
        lambda _: False,
        text_models=["words"],
        text_candidates=dict,
        max_limit=1000,
        decode=decoders.decode,
    )
    part: Any = None
    server = Server(
        app.build(queries, part, part, part, max_bytes=MAX_BYTES, default_limit=10), UnixListener(directory / "s")
    )
    server.start()
    client = Client(directory / "s")
    # What is made once is no request's.
    noise = np.random.default_rng(1).integers(0, 255, (400, 500, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    for target in ("/v1/search", "/v1/search?fuse=rrf"):
        assert client("POST", target, asked(*[file.getvalue()] * 3), JSON)[0] == 200
    assert client.asked(terms=[{"text": "a boat at night"}])[0] == 200
    yield Measured(client, decoders)
    server.stop()
    shutil.rmtree(directory)
    index.stop()


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"terms": [' + b"[]," * (28 * MIB // 3) + b"[]]}", JSON, 400),
        (json.dumps({"terms": [{"text": "\N{FIRE}" * 10_000}] * 16}).encode(), JSON, 200),
        (b'{"terms": [{"image": "' + b"A" * (24 * MIB) + b'"}]}', JSON, 422),
        (b"\x89PNG" + b"A" * (24 * MIB), "image/png", 422),
        (asked(*[png(6000, 6000)] * 6), JSON, 200),
        (asked(png(6000, 6000), slash="\\/"), JSON, 200),
        (png(13_000, 13_000), "image/png", 200),
        (png(600_000, 100), "image/png", 200),
        (png(3, 6_000_000), "image/png", 200),
    ],
    ids=["nested", "texts", "no picture", "no picture by itself", "six bombs", "escaped", "bomb", "strip", "thread"],
)
def test_no_request_costs_more_than_allowed_beyond_its_own_bytes(
    measured: Measured, kit: Any, body: bytes, kind: str, status: int
) -> None:
    before = measured.kept()
    found, cost = measured.ask(body, kind, "/v1/search?fuse=rrf")
    assert found == status
    assert cost <= ALLOWED + len(body)
    kit.eventually(lambda: measured.kept() - before < ALLOWED)
