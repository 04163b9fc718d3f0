"""The OpenAPI document of the interface, made from the types of its answers: for programs that read it, and for tests that hold it to its word.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from pydantic.json_schema import models_json_schema

import daemon
from daemon.api import schema
from daemon.api.asking import MAX_CHARACTERS, MAX_ID, MAX_TERMS, MAX_WEIGHT

MIN_LIMIT = 1
_PATH = {"type": "string"}
_NAME = {"type": "string", "minLength": 1}
_STATE = {"size": {"type": "integer"}, "mtime_ns": {"type": "integer"}}
_ID = {"anyOf": [{"type": "string", "pattern": "^[0-9]{1,19}$"}, {"type": "integer", "minimum": 0, "maximum": MAX_ID}]}
_WEIGHT = {"type": "number", "minimum": -MAX_WEIGHT, "maximum": MAX_WEIGHT, "not": {"const": 0}}
_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS, "pattern": r"\S"}


class Operation(NamedTuple):
    """One method of one address."""

    method: str
    path: str
    summary: str
    answer: type[schema.Answer] | str
    """What a good answer is: an object, or a media type."""
    body: dict[str, Any] | None = None
    """The media types of the body, each with its schema."""
    query: tuple[tuple[str, dict[str, Any]], ...] = ()
    good: tuple[int, ...] = (200,)


def _object(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _json(value: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": value}}


def _one_of(name: str, value: dict[str, Any], **further: dict[str, Any]) -> dict[str, Any]:
    return _object((name,), **{name: value, "weight": _WEIGHT, **further}) | {"additionalProperties": False}


_TERM = {
    "oneOf": [
        _one_of("text", _TEXT),
        _one_of("path", _PATH, **_STATE),
        _one_of("id", _ID),
        _one_of("image", {"type": "string", "contentEncoding": "base64"}),
    ]
}
_QUESTION = {
    "oneOf": [
        _object(("path",), path=_PATH, **_STATE),
        _object(("id",), id=_ID),
        _object(("terms",), terms={"type": "array", "items": _TERM, "minItems": 1, "maxItems": MAX_TERMS}),
    ]
}
_IMAGE = {"image/*": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}}
_PLACE = _json(_object(path=_PATH))
_FOLDER = _json(_object(("folder",), folder=_NAME))
_FLAG = {"type": "boolean"}

OPERATIONS = (
    Operation(
        "post", "/v1/search", "Find similar photos", schema.SearchAnswer, _json(_QUESTION) | _IMAGE,
        (
            ("limit", {"type": "integer", "minimum": MIN_LIMIT}),
            ("model", {"type": "array", "items": {"type": "string"}}),
            ("fuse", {"enum": ["rrf"]}),
        ),
    ),
    Operation("get", "/v1/status", "What the daemon is doing", schema.StatusAnswer),
    *(
        Operation("get", path, "Whether every part of the daemon runs", schema.HealthAnswer, good=(200, 503))
        for path in ("/health", "/v1/health")
    ),
    Operation("get", "/ready", "Whether queries are answered", schema.ReadyAnswer, good=(200, 503)),
    Operation(
        "post", "/v1/sync", "Wait until the index holds what is on disk now", schema.SyncAnswer, _PLACE,
        (("timeout", {"type": "number", "minimum": 0, "maximum": 86_400}),),
    ),
    Operation("get", "/v1/failures", "The files that could not be indexed", schema.FailuresAnswer, query=(("path", _PATH),)),
    Operation(
        "get", "/v1/skipped", "The files that look like pictures and are not read", schema.SkippedAnswer, query=(("path", _PATH),)
    ),
    Operation("post", "/v1/failures/retry", "Try them again", schema.RetryAnswer, _PLACE),
    Operation("get", "/v1/deletions", "The deletions that are held", schema.DeletionsAnswer, query=(("folder", _PATH),)),
    Operation("post", "/v1/deletions/approve", "They were meant", schema.DecisionAnswer, _FOLDER),
    Operation("post", "/v1/deletions/reject", "They were not meant", schema.DecisionAnswer, _FOLDER),
    Operation(
        "post", "/v1/models/remove", "Drop the vectors of a model that is not configured", schema.RemovedModelAnswer,
        _json(_object(("model",), model=_NAME)),
    ),
    Operation(
        "post", "/v1/verify", "Hold the disk, the mapping and the vectors against one another", schema.VerifyAnswer,
        _json(_object(deep=_FLAG, repair=_FLAG)),
    ),
    Operation("get", "/v1/export", "All that is known of the library, as one file", "application/octet-stream"),
    Operation(
        "post", "/v1/import", "Take such a file into this library", schema.ImportAnswer,
        {"application/octet-stream": {"schema": {}}},
        (("from", {"type": "array", "items": _PATH}), ("to", {"type": "array", "items": _PATH})),
    ),
    Operation(
        "post", "/v1/relocate", "Tell that photos lie in another place now", schema.RelocationAnswer,
        _json(_object(("from", "to"), **{"from": _NAME, "to": _NAME}, dry_run=_FLAG)),
    ),
    Operation(
        "post", "/v1/forget", "Drop a folder that is not watched from the index", schema.ForgetAnswer,
        _json(_object(("path",), path=_NAME, dry_run=_FLAG)),
    ),
    Operation("post", "/v1/reload", "Read the configuration again", schema.ReloadAnswer),
    Operation("get", "/metrics", "What Prometheus collects", "text/plain"),
    Operation("get", "/v1/openapi.json", "This document", "application/json"),
)  # fmt: skip


@cache
def document() -> dict[str, Any]:
    """Return the document; everything in it is true of every daemon of this version."""
    models = {one.answer for one in OPERATIONS if not isinstance(one.answer, str)} | {schema.ErrorAnswer}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _described(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "lookaliked", "version": daemon.__version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "over TCP alone"}},
        },
        "security": [{}, {"token": []}],
    }


def _described(one: Operation) -> dict[str, Any]:
    good = {"description": one.summary, "content": _content(one.answer)}
    described: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.method}{one.path.replace('/', '_').replace('.', '_')}",
        "responses": {
            **{str(status): good for status in one.good},
            "default": {"description": "An error, in one sentence", "content": _content(schema.ErrorAnswer)},
        },
    }
    if one.body is not None:
        described["requestBody"] = {"required": True, "content": one.body}
    if one.query:
        described["parameters"] = [{"name": name, "in": "query", "schema": value} for name, value in one.query]
    return described


def _content(answer: type[schema.Answer] | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {answer: {"schema": {}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}}}
