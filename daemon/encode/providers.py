"""Which execution provider runs the graphs: the configuration's names for them, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Known(NamedTuple):
    execution_provider: str
    package: str


# https://onnxruntime.ai/docs/execution-providers/ and https://onnxruntime.ai/docs/install/
PROVIDERS = {
    "cpu": _Known("CPUExecutionProvider", "onnxruntime"),
    "cuda": _Known("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": _Known("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "openvino": _Known("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": _Known("CoreMLExecutionProvider", "onnxruntime on macOS"),
    "directml": _Known("DmlExecutionProvider", "onnxruntime-directml"),
}


@dataclass(frozen=True)
class Provider:
    """An execution provider by its name in PROVIDERS, with the options that onnxruntime documents for it.

    `allow_fallback` lets a graph that it cannot run be run by the CPU, which the log then says.
    """

    name: str
    options: dict[str, str] = field(default_factory=dict)
    allow_fallback: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that is not in PROVIDERS: ValueError."""
        if self.name not in PROVIDERS:
            raise ValueError(f"{self.name!r} is none of {', '.join(PROVIDERS)}")

    @property
    def execution_provider(self) -> str:
        """What onnxruntime calls it."""
        return PROVIDERS[self.name].execution_provider

    def session_options(self, threads: int) -> dict[str, str]:
        """Return what a session with `threads` threads inside each operator passes to it; given options come first."""
        # OpenVINO has threads of its own, eight by default, and does not see those of the session.
        defaults = {"num_of_threads": str(threads)} if self.name == "openvino" else {}
        return defaults | self.options

    def absence(self, available: Iterable[str]) -> str:
        """Return why it cannot be used where onnxruntime has only `available`, and what to install."""
        present = set(available)
        has = [name for name, known in PROVIDERS.items() if known.execution_provider in present]
        package = PROVIDERS[self.name].package
        place = package if self.name == "coreml" else f"{package} in the place of the onnxruntime that is installed"
        return f"this onnxruntime has no provider {self.name}, only {', '.join(has)}; install {place}, or configure another."


CPU = Provider("cpu")
