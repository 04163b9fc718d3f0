"""Runs one ONNX graph."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from daemon.encode.providers import CPU
from daemon.errors import ModelError

# Importing onnxruntime reports to its maker at once, unless it is told not to; its function for that comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from daemon.encode.providers import Provider

log = logging.getLogger(__name__)

_FATAL_ONLY = 4
_TOO_LARGE = "it takes more memory than it may have; use a smaller model, or export it again."
_FRACTIONS = {"float", "float16", "double"}

# It writes past the daemon's log: names out of a graph as they are, in errors that it raises as well, and warnings about hardware that
# is not there.
onnxruntime.set_default_logger_severity(_FATAL_ONLY)


class Port(NamedTuple):
    """An input or output of a graph; `dtype` is ONNX's name for it, and an axis of any length is a name or None."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Session:
    """One graph, loaded once; `run` may be called from several threads at a time, each adding its own thread's work.

    No library of custom operators is ever registered: a graph that needs one cannot be loaded.
    """

    def __init__(
        self, name: str, graph: Path, *, threads: int, provider: Provider = CPU, fed_by: str = "input"
    ) -> None:
        """Load `graph` for the model `name`, with `threads` threads inside each operator.

        `fed_by` is the part of the spec that says what the graph is fed. ModelError when the graph cannot be loaded, or
        when `provider` does not run it and may not be replaced by the CPU; a replacement is said in the log.
        """
        self.name = name
        self._fed_by = fed_by
        self._session = _open(name, graph, threads, provider)
        self.provider = str(self._session.get_providers()[0])
        self.inputs = tuple(_port(node) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node) for node in self._session.get_outputs())

    def output(self, wanted: str | int | None, *, model: str, key: str) -> str:
        """Return the name of the output that `key` of the spec of `model` asks for, by name or position, or of the only one.

        ModelError when there is none, or when it does not hold floating point numbers.
        """
        names = [port.name for port in self.outputs]
        if isinstance(wanted, int):
            chosen = names[wanted] if wanted < len(names) else None
        else:
            chosen = wanted or (names[0] if len(names) == 1 else None)
        if chosen not in names:
            raise ModelError(model, f"set '{key}' in its spec to one of its outputs: {', '.join(names)}.")
        dtype = self.outputs[names.index(chosen)].dtype
        if dtype not in _FRACTIONS:
            reason = (
                f"its output {chosen} holds {dtype}, of which no vector is made; set '{key}' in its spec to another."
            )
            raise ModelError(model, reason)
        return chosen

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the `outputs` by name, float32; ModelError when the graph refuses the inputs, or the session is closed."""
        session = self._session
        if session is None:
            raise ModelError(self.name, "it is no longer loaded; ask again.")
        try:
            results = session.run(list(outputs), dict(inputs))
        # onnxruntime's errors share no base but Exception.
        except Exception as error:
            reason = f"it cannot be run ({_first_line(error)}); check '{self._fed_by}' in its spec."
            if _is_of_memory(error):
                reason = _TOO_LARGE
            raise ModelError(self.name, reason) from error
        return {
            name: np.asarray(result).astype(np.float32, copy=False)
            for name, result in zip(outputs, results, strict=True)
        }

    def close(self) -> None:
        """Give the graph's memory back, once the runs that have begun are over."""
        self._session = None


def _open(name: str, graph: Path, threads: int, provider: Provider) -> Any:
    try:
        return _open_with(name, graph, threads, provider)
    except ModelError as error:
        if provider.name == CPU.name or not provider.allow_fallback:
            raise
        session = _open_with(name, graph, threads, CPU)
        said = "Model %s runs with cpu in the place of %s: %s"
        log.warning(said, name, provider.name, error.reason, extra={"model": name})
        return session


def _open_with(name: str, graph: Path, threads: int, provider: Provider) -> Any:
    """Return a session that `provider` runs, verified once it exists."""
    available = onnxruntime.get_available_providers()
    wanted = provider.execution_provider
    if wanted not in available:
        raise ModelError(name, provider.absence(available))
    try:
        session = onnxruntime.InferenceSession(
            str(graph),
            _options(threads, provider),
            providers=[(wanted, provider.session_options(threads))],
            # Its own fallback prints to stdout, and moves a session to the CPU in the midst of its life.
            enable_fallback=0,
        )
    # As above: each of its codes has a class of its own.
    except Exception as error:
        reason = _TOO_LARGE if _is_of_memory(error) else _refusal(graph, provider, _first_line(error))
        raise ModelError(name, reason) from error
    found = _runner(session)
    if found != wanted:
        reason = (
            f"{found} runs it where {provider.name} is configured; install what {wanted} needs, or configure another."
        )
        raise ModelError(name, reason)
    return session


def _runner(session: Any) -> str:
    """Return the first of a session's providers, or the next where that one runs no part of the graph.

    A provider that supports none of a graph's operators stays at the head of the list, and the CPU does all the work. Only
    newer releases of onnxruntime tell (1.24 and 1.32 do).
    """
    first, *others = session.get_providers()
    assignments = getattr(session, "get_provider_graph_assignment_info", None)
    if not others or assignments is None:
        return str(first)
    busy = {part.ep_name for part in assignments()}
    return str(first if first in busy else others[0])


def _refusal(graph: Path, provider: Provider, reason: str) -> str:
    if provider.name == CPU.name:
        return f"{graph} cannot be loaded ({reason}); export the model again."
    return (
        f"{graph} cannot be loaded with {provider.name} ({reason}); check the provider's options, or configure another."
    )


def _port(node: Any) -> Port:
    dtype = str(node.type).removeprefix("tensor(").removesuffix(")")
    # A scalar has the shape [], and a sequence or map has none.
    return Port(str(node.name), dtype, tuple(node.shape or ()))


def _options(threads: int, provider: Provider) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # A pool that spins after each batch takes the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the largest batch's memory for good; without it, memory goes back between batches.
    options.enable_cpu_mem_arena = False
    if provider.name != CPU.name:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _is_of_memory(error: Exception) -> bool:
    # onnxruntime passes on what the C++ library says, or its allocator.
    return isinstance(error, MemoryError) or any(
        sign in str(error) for sign in ("bad_alloc", "bad allocation", "Failed to allocate memory")
    )
