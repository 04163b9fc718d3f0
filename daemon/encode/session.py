"""Runs one ONNX graph."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.errors import ModelError

# Importing onnxruntime reports to its maker at once, unless it is told not to; its function for that comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3

# Warnings about hardware that is not there go to stderr otherwise, past the daemon's log.
onnxruntime.set_default_logger_severity(_ERRORS_ONLY)


class Session:
    """One graph, loaded once; `run` may be called from several threads at a time, each adding its own thread's work."""

    def __init__(
        self,
        name: str,
        graph: Path,
        *,
        threads: int,
        output: str | int | None = None,
        providers: Sequence[str] = (CPU,),
    ) -> None:
        """Load `graph` for the model `name`, with `threads` threads inside each operator.

        `output` is the name or the position of the output to return where the graph has more than one. A provider that is asked for and is not
        there is said in the log. ModelError when the graph cannot be loaded, or has other inputs or outputs.
        """
        self.name = name
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), _options(threads), providers=_available(name, providers)
            )
        # onnxruntime's errors share no base but Exception.
        except Exception as error:
            raise ModelError(
                name, f"{graph} cannot be loaded ({_first_line(error)}); export the model again."
            ) from error
        self._input = self._only_input()
        self._output = self._chosen_output(output)
        self.provider = self._verified_provider(providers[0])

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the chosen output for `batch`, whose first axis counts photos; ModelError when the graph refuses it."""
        try:
            (result,) = self._session.run([self._output], {self._input: batch})
        # As above: each of its codes has a class of its own.
        except Exception as error:
            raise ModelError(
                self.name, f"it cannot be run ({_first_line(error)}); check 'input' in its spec."
            ) from error
        return np.asarray(result)

    def _only_input(self) -> str:
        names = [node.name for node in self._session.get_inputs()]
        if len(names) != 1:
            raise ModelError(
                self.name, f"it takes {len(names)} inputs ({', '.join(names)}) where an image model takes one."
            )
        return str(names[0])

    def _chosen_output(self, output: str | int | None) -> str:
        names = [str(node.name) for node in self._session.get_outputs()]
        if isinstance(output, int):
            chosen = names[output] if output < len(names) else None
        else:
            chosen = output or (names[0] if len(names) == 1 else None)
        if chosen not in names:
            raise ModelError(self.name, f"set 'output.name' in its spec to one of its outputs: {', '.join(names)}.")
        return chosen

    def _verified_provider(self, wanted: str) -> str:
        provider = str(self._session.get_providers()[0])
        if provider != wanted:
            log.warning("Model %s runs with %s: %s is not available.", self.name, provider, wanted)
        return provider


def _available(name: str, providers: Sequence[str]) -> list[str]:
    available = set(onnxruntime.get_available_providers())
    chosen = [provider for provider in providers if provider in available]
    if not chosen and CPU not in available:
        raise ModelError(name, f"this onnxruntime has none of {', '.join(providers)}; install one that has.")
    return chosen or [CPU]


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # A pool that spins after each batch takes the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the largest batch's memory for good; without it, memory goes back between batches.
    options.enable_cpu_mem_arena = False
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
