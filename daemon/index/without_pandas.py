"""Lets a library that knows data frames be imported without pandas, which it needs for nothing else.

pymilvus imports pandas for `isinstance(data, DataFrame)` and for a few functions that lookalike never reaches. With pandas and pyarrow, which
comes with it, its import takes twice the time and 65 MB more, in the daemon and in Milvus Lite's process.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES = ("pandas", "pandas.api", "pandas.api.types")


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """While this lasts, let `import pandas` give a stand-in, which imports pandas when one of its functions is called.

    Nothing is an instance of its classes before somebody else has imported pandas. If pandas has been imported already, this changes
    nothing. It is for the import of modules; no other thread may import pandas meanwhile.
    """
    if "pandas" in sys.modules:
        yield
        return
    stand_ins = {name: _StandIn(name) for name in _NAMES}
    for name in _NAMES[1:]:
        parent, _, child = name.rpartition(".")
        setattr(stand_ins[parent], child, stand_ins[name])
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def never_import_pandas() -> None:
    """Let `import pandas` fail in this process from now on: pyarrow, which tries it at its first table, then does without."""
    sys.meta_path.insert(0, _NoPandas())


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - Python's signature
        if fullname == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=fullname)


class _StandIn(ModuleType):
    """A module of pandas that has not been imported."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _class(self.__name__, name) if name[0].isupper() else _function(self.__name__, name)


class _Unknown(type):
    """The class of a class of pandas: an object can be an instance of that only once pandas has been imported."""

    def __instancecheck__(cls, instance: object) -> bool:
        found = getattr(sys.modules.get(cls.__module__), cls.__name__, None)
        return isinstance(found, type) and found is not cls and isinstance(instance, found)


def _class(module: str, name: str) -> type:
    return _Unknown(name, (), {"__module__": module})


def _function(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **named)

    return call
