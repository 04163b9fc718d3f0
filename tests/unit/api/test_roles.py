"""Who may use which route: a table that holds for every route there is, and requests that try to get round it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from daemon.api import app
from daemon.api.admission import Admission, Admitted, Entitled, Role
from daemon.api.connections import UNIX
from daemon.api.reload import Reloads
from daemon.api.routes import Row
from daemon.api.transfers import Transfers

GROUP, STRANGER = 7, 54_321
ADMINISTRATION = {
    "/v1/reload", "/v1/import", "/v1/relocate", "/v1/forget", "/v1/models/remove", "/v1/failures/retry",
    "/v1/deletions/approve", "/v1/deletions/reject",
}  # fmt: skip


class Untouched:
    """Stands for every part of the daemon, and notes what a request reaches."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def reach(*_: Any, **__: Any) -> Any:
            self.reached.append(name)
            raise ZeroDivisionError

        return reach


def application(part: Any) -> Any:
    return app.build(
        part, part, part, part, max_bytes=1000, default_limit=1,
        more=[*Transfers(part, part, part, part, part).routes(), *Reloads(part.reload).routes()],
        admission=Admission(Admitted(4, 1000.0), asks=Entitled(GROUP), administers=Entitled(GROUP + 1)),
    )  # fmt: skip


def ask(one: Any, method: str, path: str, body: bytes = b"{}", *, group: int = GROUP) -> int:
    """Return the status of what a member of a group is answered."""
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": [],
        "state": {UNIX: (STRANGER, group)},
    }  # fmt: skip
    try:
        asyncio.run(one(scope, receive, send))
    except ZeroDivisionError:
        assert said[0]["status"] == 500
    return int(said[0]["status"])


def rows(one: Any) -> list[Row]:
    assert all(isinstance(route, Row) for route in one.routes), "a route without a role"
    return list(one.routes)


ROWS = [(next(iter(row.methods - {"HEAD"})), row.path) for row in rows(application(Untouched())) if row.methods]


def test_administration_is_what_changes_the_library_or_the_daemon() -> None:
    found = {row.path for row in rows(application(Untouched())) if row.role is Role.ADMINISTERS}
    assert found == ADMINISTRATION


@pytest.mark.parametrize(("method", "path"), ROWS)
def test_who_may_only_ask_reaches_nothing_that_administers(method: str, path: str) -> None:
    part = Untouched()
    status = ask(application(part), method, path)
    assert (status == 403) == (path in ADMINISTRATION)
    assert status != 403 or not part.reached
    assert ask(application(part), method, path, group=GROUP + 1) != 403
    assert ask(application(part), method, path, group=GROUP + 2) == 403


@pytest.mark.parametrize(
    "path", ["{}\n", "{}/", "/{}", "/v1/../{}", "{};a", "{}%00", "{}?", "/v1/status/../{}", "{}\t", "{} "]
)
def test_another_spelling_of_an_address_is_no_way_round(path: str) -> None:
    for route in sorted(ADMINISTRATION):
        part = Untouched()
        assert ask(application(part), "POST", path.format(route)) in {307, 403, 404}
        assert not part.reached


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "post", "OPTIONS", "PATCH"])
def test_another_method_is_no_way_round(method: str) -> None:
    for route in sorted(ADMINISTRATION):
        part = Untouched()
        assert ask(application(part), method, route) == 405
        assert not part.reached


@pytest.mark.parametrize(
    "asked", [{"repair": True}, {"deep": True, "repair": True}, {"repair": 1}, {"repair": "yes"}, {"repair": [0]}]
)
def test_a_verification_that_repairs_administers_and_one_that_looks_asks(asked: dict[str, Any]) -> None:
    part = Untouched()
    assert ask(application(part), "POST", "/v1/verify", json.dumps(asked).encode()) == 403
    assert not part.reached
    ask(application(part), "POST", "/v1/verify", b'{"deep": true, "repair": false}')
    assert part.reached == ["run"]


def test_the_owner_may_do_everything() -> None:
    one = Admission(Admitted(4, 1000.0))
    for user in (0, os.geteuid()):
        assert one.of({"headers": [], "client": None, "state": {UNIX: (user, STRANGER)}}).role is Role.ADMINISTERS


def test_the_page_of_the_interface_says_what_administers() -> None:
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")
    listed = page[page.index("## Who may do what") :].partition("\n## ")[0] if "## Who may do what" in page else ""
    for route in ADMINISTRATION:
        assert f"`{route}`" in listed
