"""Whether a graph takes the photos that a spec describes; asked before anything is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.errors import ModelError

if TYPE_CHECKING:
    from daemon.encode.session import Port, Session
    from daemon.encode.specs import InputSpec

_AXES = {"nchw": ("batch", "channels", "height", "width"), "nhwc": ("batch", "height", "width", "channels")}
_DTYPES = {"float": "float32", "float16": "float16", "uint8": "uint8"}
_CHANNELS = 3


def photo_input(session: Session, spec: InputSpec) -> str:
    """Return the name of the graph's input; ModelError with both sides where it differs from the spec."""
    if len(session.inputs) != 1:
        names = ", ".join(port.name for port in session.inputs)
        reason = f"it takes {len(session.inputs)} inputs ({names}) where an image model takes one; export the image part alone."
        raise ModelError(session.name, reason)
    (port,) = session.inputs
    problem = _of_dtype(port, spec) or _of_shape(port, spec)
    if problem:
        raise ModelError(session.name, problem)
    return port.name


def _of_dtype(port: Port, spec: InputSpec) -> str | None:
    taken = _DTYPES.get(port.dtype)
    if taken is None:
        return (
            f"its graph takes {port.dtype}, which is none of {', '.join(_DTYPES.values())}; export it with one of them."
        )
    if taken != spec.dtype:
        return f"its graph takes {taken} where its spec says {spec.dtype}; set 'input.dtype' in its spec to {taken}."
    return None


def _of_shape(port: Port, spec: InputSpec) -> str | None:
    if not port.shape:
        return None
    if len(port.shape) != len(_AXES[spec.layout]):
        shape = list(port.shape)
        return f"its input has the shape {shape}, not the four axes of a batch of photos; export it with those."
    axes = dict(zip(_AXES[spec.layout], port.shape, strict=True))
    fixed = {axis: length for axis, length in axes.items() if isinstance(length, int)}
    if fixed.get("batch", 1) != 1:
        return f"its graph takes {fixed['batch']} photos at a time; export it with a batch of any size, or of 1."
    if fixed.get("channels", _CHANNELS) != _CHANNELS:
        channels = f"{fixed['channels']} channel{'' if fixed['channels'] == 1 else 's'}"
        return (
            f"its input has {channels} in the layout {spec.layout}, not 3; "
            "check 'input.layout' in its spec, or export it for colour photos."
        )
    sides = [fixed.get(axis, spec.size) for axis in ("height", "width")]
    if sides != [spec.size, spec.size]:
        height, width = sides
        taken = f"set 'input.size' in its spec to {height}" if height == width else "export it for a square"
        return f"its graph takes photos of {width} x {height} pixels where its spec says {spec.size}; {taken}."
    return None
