"""What differs between two configurations, key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from daemon.config import Config, Folder
from daemon.reloading import RESTART, Difference, difference, in_force, values

OTHERS: dict[str, Any] = {
    "library": "another",
    "folders": (Folder(path=Path("/photos")),),
    "models": ("vgg16",),
    "milvus.index": "FLAT",
    "watch.ignore": ("*.tmp",),
    "encode.provider": "cuda",
    "encode.provider_options": {"device_id": "1"},
    "encode.allow_fallback": True,
    "log.level": "debug",
    "log.format": "json",
    "api.group": "family",
    "api.listen": "127.0.0.1:8077",
    "redis.url": SecretStr("redis://nas"),
    "milvus.uri": "http://nas:19530",
    "milvus.token": SecretStr("t"),
    "api.token": SecretStr("0123456789abcdef"),
}


def other(key: str, value: Any) -> Any:
    """Return another value for a key."""
    if key in OTHERS:
        return OTHERS[key]
    return value + 1 if isinstance(value, int | float) else Path("/elsewhere")


def changed(key: str) -> Config:
    config = Config()
    value = other(key, values(config)[key])
    name, _, inner = key.partition(".")
    return config.model_copy(update={name: getattr(config, name).model_copy(update={inner: value}) if inner else value})


@pytest.mark.parametrize("key", values(Config()))
def test_each_key_is_told_and_holds_at_once_or_from_the_next_start_on(key: str) -> None:
    wanted = changed(key)
    expected = Difference((), (key,)) if key in RESTART else Difference((key,), ())
    assert difference(Config(), wanted) == expected
    assert values(in_force(Config(), wanted)) == values(Config() if key in RESTART else wanted)


def test_what_is_the_same_differs_in_nothing() -> None:
    assert difference(Config(), Config()) == Difference((), ())


def test_every_key_that_needs_a_restart_is_one() -> None:
    assert set(values(Config())) >= RESTART
