"""What an operator sees of a running daemon: its log, its metrics, and whether it is well."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from daemon.logs.journal import listens
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Metric

    Wait = Callable[..., Any]

DAMAGED, SOUND, TEXTS = 300, 12, 20
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ROOT = Path(__file__).parents[2]


def asked(lookalike: Any, target: str, accept: str = "") -> tuple[int, str, str]:
    """Return the status, the content type and the body of an answer."""
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(os.fspath(lookalike.socket))
    connection.request("GET", target, headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers["content-type"], body


def families(lookalike: Any) -> dict[str, Metric]:
    status, content_type, text = asked(lookalike, "/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    """Return the sum of the samples of a name that have these labels."""
    samples = [sample for family in metrics.values() for sample in family.samples if sample.name == name]
    assert samples, name
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.fixture
def filled(lookalike: Any, photos: Any) -> Any:
    """A folder with some photos, and hundreds of files that are none."""
    photos.fill(lookalike.folder, SOUND)
    whole = photos.data(99)
    for n in range(DAMAGED):
        (lookalike.folder / f"cut short {n}.jpg").write_bytes(whole[: 800 + n])
    for n in range(TEXTS):
        (lookalike.folder / f"text {n}.jpg").write_text(f"no photo {n}")
    return lookalike


def test_hundreds_of_damaged_files_are_a_handful_of_lines_and_a_count(filled: Any) -> None:
    done = filled.once()
    assert done.returncode == 0, done.stderr
    lines = done.stderr.decode().splitlines()
    assert len(lines) < 40
    counts = [
        int(found[1].replace(",", "")) for line in lines if (found := re.search(r"([\d,]+) more in the last", line))
    ]
    shown = [line for line in lines if "not indexed: " in line and "more in the last" not in line]
    # Each is told when it fails, and once more by a run that ends.
    assert len(shown) + sum(counts) == 2 * (DAMAGED + TEXTS)
    assert any("text" in line and "not an image" in line for line in shown), "another kind of failure is not lost"
    told = [line for line in lines if "warning" not in line]
    assert not any(f"{n}.jpg" in line for line in told for n in range(SOUND)), "nothing of a photo that is well"


def test_what_is_measured_follows_the_conventions_and_is_true(filled: Any, wait_for: Wait) -> None:
    filled.start()
    filled.up_to_date()
    filled.search(filled.folder / "0.jpg")
    wait_for(lambda: families(filled)["lookalike_pending_paths"].samples[0].value == 0)
    metrics = families(filled)
    for family in metrics.values():
        assert family.documentation, family.name
        assert re.fullmatch(r"(lookalike|process)_[a-z_]+", family.name)
        assert family.type in ("counter", "gauge", "histogram"), family.name
        totals = [sample.name.endswith("_total") for sample in family.samples]
        assert all(totals) if family.type == "counter" else not any(totals)
        assert family.name.endswith("_seconds") or family.type != "histogram"
        assert not re.search(r"_(milliseconds|ms|minutes|kilobytes|mebibytes|percent)\b", family.name)
    assert value(metrics, "lookalike_photos") == SOUND
    assert value(metrics, "lookalike_encoded_photos_total") == SOUND
    assert value(metrics, "lookalike_failures", reason="damaged") == DAMAGED
    assert value(metrics, "lookalike_failures", reason="not_an_image") == TEXTS
    assert value(metrics, "lookalike_failures") == DAMAGED + TEXTS
    listed = json.loads(asked(filled, "/v1/failures")[2])["failures"]
    assert Counter(failure["kind"] for failure in listed) == {"damaged": DAMAGED, "not_an_image": TEXTS}
    assert value(metrics, "lookalike_decode_seconds_count") >= SOUND + DAMAGED + TEXTS
    assert value(metrics, "lookalike_encode_seconds_count", model="efficientnet-lite0") == SOUND
    assert 0 < value(metrics, "lookalike_encode_seconds_sum") < 60
    assert value(metrics, "lookalike_commit_seconds_count") >= 1
    assert value(metrics, "lookalike_reconcile_seconds_count") == value(metrics, "lookalike_reconciles_total")
    assert value(metrics, "lookalike_store_seconds_count", store="milvus", operation="write") >= 1
    assert value(metrics, "lookalike_store_seconds_count", store="milvus", operation="search") >= 1
    assert value(metrics, "lookalike_store_seconds_count", store="redis", operation="write") >= 1
    assert value(metrics, "lookalike_store_up") == 2
    assert value(metrics, "lookalike_http_request_seconds_count", route="/v1/search", method="POST", code="200") == 1
    assert value(metrics, "lookalike_build_info") == 1
    assert value(metrics, "process_resident_memory_bytes") > 10_000_000
    commits = value(metrics, "lookalike_commit_seconds_count")
    assert value(metrics, "lookalike_commit_seconds_bucket", le="+Inf") == commits
    # The stricter parser of the newer format knows what it is given, too.
    status, content_type, text = asked(filled, "/metrics", OPENMETRICS)
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    strict: Any = openmetrics.text_string_to_metric_families
    assert {family.name for family in strict(text)} >= {"lookalike_photos", "lookalike_build"}
    samples = {sample.name for family in metrics.values() for sample in family.samples}
    for file in ("grafana/lookalike.json", "prometheus/lookalike.rules.yml"):
        queries = re.findall(
            r'(?:"expr"|"definition"|\bexpr): (.*)', (ROOT / "configs" / file).read_text(encoding="utf-8")
        )
        named = {name for query in queries for name in re.findall(r"\b(?:lookalike|process)_\w+", query)}
        assert len(named) > 5
        assert named - samples == set(), f"{file} asks for what there is not"
    document = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    names = {sample.name for family in metrics.values() for sample in family.samples if family.type != "histogram"}
    names |= {family.name for family in metrics.values() if family.type == "histogram"}
    assert [name for name in names if name.startswith("lookalike_") and f"`{name}`" not in document] == []


def test_what_nobody_serves_is_measured_as_other(lookalike: Any) -> None:
    lookalike.start()
    for target in ("/secret", "/v1/status/../x", "/%00"):
        assert asked(lookalike, target)[0] == 404
    metrics = families(lookalike)
    assert value(metrics, "lookalike_http_request_seconds_count", route="other", code="404") == 3


def test_a_photo_that_appears_is_measured_from_its_event_to_being_found(
    lookalike: Any, photos: Any, wait_for: Wait
) -> None:
    lookalike.start()
    lookalike.up_to_date()
    photos.write(lookalike.folder / "new.jpg", 1)
    wait_for(lambda: value(families(lookalike), "lookalike_lag_seconds_count") == 1)
    assert 0 < value(families(lookalike), "lookalike_lag_seconds_sum") < 30


def test_a_daemon_without_a_store_is_alive_and_not_ready(lookalike: Any, wait_for: Wait) -> None:
    lookalike.start()
    lookalike.up_to_date()
    assert asked(lookalike, "/health")[0] == asked(lookalike, "/ready")[0] == 200
    assert json.loads(asked(lookalike, "/health")[2]) == {"schema": 1, "status": "ok", "reasons": []}
    assert json.loads(asked(lookalike, "/ready")[2]) == {"schema": 1, "status": "ready", "reason": ""}
    # Stopped, it is there and does not answer: as a machine that hangs.
    valkey = next(child for child in lookalike.children if "valkey" in child.name())
    valkey.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: asked(lookalike, "/ready")[0] == 503)
        assert "Redis" in json.loads(asked(lookalike, "/ready")[2])["reason"]
        status, _, body = asked(lookalike, "/health")
        assert (status, json.loads(body)["status"]) == (200, "degraded")
        metrics = families(lookalike)
        assert value(metrics, "lookalike_store_up", store="redis") == 0
        assert value(metrics, "lookalike_degraded") == 1
        assert value(metrics, "lookalike_store_errors_total", store="redis") >= 1
    finally:
        valkey.send_signal(signal.SIGCONT)
    wait_for(lambda: asked(lookalike, "/ready")[0] == 200)


def test_a_store_that_is_started_again_is_counted(lookalike: Any, wait_for: Wait) -> None:
    lookalike.start()
    lookalike.up_to_date()
    next(child for child in lookalike.children if "valkey" in child.name()).kill()
    wait_for(lambda: value(families(lookalike), "lookalike_store_restarts_total", store="redis") == 1)
    assert lookalike.process is not None
    lookalike.children = psutil.Process(lookalike.process.pid).children(recursive=True)


def test_a_log_for_programs_is_an_object_on_each_line(lookalike: Any, photos: Any) -> None:
    name = os.fsdecode(b"latin-\xe9\n.jpg")
    (lookalike.folder / name).write_bytes(photos.data(1)[:900])
    file = lookalike.root / "lookalike.yaml"
    file.write_text(
        f"folders: [{lookalike.folder}]\nmodels: [efficientnet-lite0]\nlog: {{format: json, level: debug}}\n"
    )
    done = lookalike.daemon("run", "--config", file, "--once")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["level"] for line in lines} == {"debug", "info", "warning"}
    failed = next(line for line in lines if "is not indexed" in line["message"])
    assert failed["fields"] == {"path": f"{lookalike.folder}/{printable(name)}", "kind": "damaged"}
    assert any("duration_seconds" in line.get("fields", {}) for line in lines)


@pytest.mark.skipif(listens(), reason="the journal of this machine would be written to")
def test_what_is_wrong_before_the_configuration_is_read_has_its_priority(lookalike: Any) -> None:
    file = lookalike.root / "lookalike.yaml"
    file.write_text("flavour: mild\n")
    with lookalike.log.open("wb") as log:
        found = os.fstat(log.fileno())
        stream = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        done = subprocess.run(
            [Path(sys.executable).parent / "lookaliked", "run", "--config", file],
            env=lookalike.environment | stream,
            stdout=log,
            stderr=log,
            timeout=60,
            check=False,
        )
    assert done.returncode == 78
    first, *others = lookalike.said().splitlines()
    assert first == f"<3>{file} cannot be used:"
    assert others
    assert all(line.startswith("<3>  ") for line in others)
