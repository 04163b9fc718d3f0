"""Which environment variables may act on the two programs: one table, and the function that removes all others.

Libraries read variables that other programs set, and `.env` files besides: pymilvus alone would take an address from MILVUS_URI. So both
programs keep the variables of this table and remove the rest before they import a library. Their child processes inherit what is left.

Standard library only: `lookalike` imports it at every start.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping


class Rule(NamedTuple):
    """Variables that one reader reads, and the reason why they may act; a name that ends in * stands for all that begin so."""

    names: tuple[str, ...]
    reader: str
    reason: str


MAY_ACT = (
    Rule(("LOOKALIKE_*",), "lookalike", "They are its own, and documented."),
    Rule(
        ("HOME", "XDG_*", "TMPDIR", "PATH"),
        "lookalike and the system's commands",
        "They say where files and commands are.",
    ),
    Rule(
        ("USER", "LOGNAME", "SUDO_*"),
        "lookalike and the system's commands",
        "They say who asks.",
    ),
    Rule(
        (
            "CONFIGURATION_DIRECTORY",
            "STATE_DIRECTORY",
            "CACHE_DIRECTORY",
            "RUNTIME_DIRECTORY",
            "LOGS_DIRECTORY",
            "CREDENTIALS_DIRECTORY",
            "NOTIFY_SOCKET",
            "WATCHDOG_*",
            "LISTEN_*",
            "JOURNAL_STREAM",
            "INVOCATION_ID",
            "SYSTEMD_*",
            "DBUS_SESSION_BUS_ADDRESS",
        ),
        "lookalike and systemctl",
        "systemd sets them for a service and for a session.",
    ),
    Rule(
        ("LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR", "TERM", "TERMINFO*", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR"),
        "Python, the C library and Rich",
        "They describe the language, the time zone and the terminal of the person who asks.",
    ),
    Rule(
        ("LD_*", "MALLOC_*", "GLIBC_TUNABLES", "LOCPATH"),
        "the C library and its loader",
        "They act before the first line of lookalike runs, and a child process needs the same libraries.",
    ),
    Rule(
        (
            "PYTHONHOME",
            "PYTHONPATH",
            "PYTHONPLATLIBDIR",
            "PYTHONSAFEPATH",
            "PYTHONNOUSERSITE",
            "PYTHONUSERBASE",
            "PYTHONPYCACHEPREFIX",
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONUTF8",
            "PYTHONIOENCODING",
            "PYTHONCOERCECLOCALE",
            "PYTHONUNBUFFERED",
            "PYTHONFAULTHANDLER",
            "PYTHONHASHSEED",
        ),
        "Python",
        "They act before the first line of lookalike runs, and a child process needs the same modules.",
    ),
    Rule(
        ("SSL_CERT_FILE", "SSL_CERT_DIR", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        "OpenSSL and gRPC",
        "They say which authorities you trust for rediss:// and https://.",
    ),
    Rule(
        ("CUDA_*", "NVIDIA_*", "OPENVINO_LIB_PATHS", "INTEL_OPENVINO_DIR"),
        "the drivers of a GPU",
        "They say which devices encode.provider may use; lookaliked tells when it finds none.",
    ),
)
"""All variables that may act on a command of either program. All others are removed."""

MAY_ACT_ON_DOWNLOADS = (
    Rule(
        ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        "Python, pip and huggingface_hub",
        "They say how this machine reaches the network.",
    ),
    Rule(
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"),
        "pip and huggingface_hub",
        "They say which authorities you trust, and who you are.",
    ),
    Rule(("PIP_*",), "pip", "They say where packages come from."),
    Rule(
        ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
        "huggingface_hub",
        "They say who you are and where the hub is.",
    ),
    Rule(("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"), "huggingface_hub", "They keep it from reporting what is used."),
)
"""Variables that may act on `lookalike models pull` as well, the only command that downloads."""

IS_SET = {
    # pymilvus reads a .env file when it is imported.
    "PYTHON_DOTENV_DISABLED": "1",
    # Else onnxruntime writes into the cache of whoever imports it.
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Variables that lookalike sets for its libraries, whatever they were."""

CHANGES_PYTHON = frozenset(
    {
        "PYTHONASYNCIODEBUG",
        "PYTHONDEBUG",
        "PYTHONDEVMODE",
        "PYTHONDUMPREFS",
        "PYTHONINSPECT",
        "PYTHONINTMAXSTRDIGITS",
        "PYTHONMALLOC",
        "PYTHONMALLOCSTATS",
        "PYTHONOPTIMIZE",
        "PYTHONPERFSUPPORT",
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONTRACEMALLOC",
        "PYTHONVERBOSE",
        "PYTHONWARNINGS",
        "PYTHON_CPU_COUNT",
        "PYTHON_GIL",
    }
)
"""Variables for developers, which Python reads before any line of lookalike runs. A warning of a library may become an error by one."""

_removed: dict[str, str] = {}
"""Variables that `tidy` removed and that a download may need. The main thread owns them."""


class _Names:
    """A set of names, some of which stand for all that begin so."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        names = [name for rule in rules for name in rule.names]
        self._exact = frozenset(name for name in names if not name.endswith("*"))
        self._beginnings = tuple(name[:-1] for name in names if name.endswith("*"))

    def __contains__(self, name: str) -> bool:
        return name in self._exact or name.startswith(self._beginnings)


_MAY_ACT = _Names(MAY_ACT)
_MAY_ACT_ON_DOWNLOADS = _Names(MAY_ACT_ON_DOWNLOADS)


def begin() -> None:
    """Tidy the environment of a program, and let nobody else write what it makes.

    If Python itself has read a variable that may not act, start the program again without it.
    """
    os.umask(os.umask(0o077) | stat.S_IWGRP | stat.S_IWOTH)
    found = CHANGES_PYTHON & os.environ.keys()
    for name in found:
        del os.environ[name]
    if found and sys.executable:
        with suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - there is no shell to want
    tidy()


def tidied(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environment` that may act, and those that lookalike sets."""
    return {name: value for name, value in environment.items() if name in _MAY_ACT} | IS_SET


def tidy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove the variables that may not act from this process. Nothing that reads it may have been imported yet."""
    kept = tidied(environment)
    # An empty name cannot be removed, and nobody reads one.
    for name in [name for name in environment if name and name not in kept]:
        value = environment.pop(name)
        if name in _MAY_ACT_ON_DOWNLOADS:
            _removed[name] = value
    environment.update(IS_SET)


def allow_downloads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let the variables act that a download needs, in this process and in its children."""
    environment.update(_removed)
