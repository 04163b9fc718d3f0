"""Which variables may act, and that no other does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import environment

ROOT = Path(__file__).parents[2]
OF_LIBRARIES = (
    "MILVUS_URI",
    "MILVUS_DEFAULT_CONNECTION",
    "MILVUS_CONN_TIMEOUT",
    "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES",
    "GRPC_VERBOSITY",
    "GRPC_TRACE",
    "GRPC_DNS_RESOLVER",
    "GRPC_PROXY_EXP",
    "grpc_proxy",
    "no_grpc_proxy",
    "http_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "ORT_LOAD_CONFIG_FROM_MODEL",
    "ORT_INTRA_OP_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "KMP_AFFINITY",
    "GOMP_CPU_AFFINITY",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "ARROW_DEFAULT_MEMORY_POOL",
    "ARROW_IO_THREADS",
    "FAISS_DISABLE_CPU_FEATURES",
    "PILLOW_ALLOC_ARENAS",
    "PILLOW_BLOCK_SIZE",
    "PILLOW_BLOCKS_MAX",
    "PROMETHEUS_MULTIPROC_DIR",
    "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS",
    "OTEL_SDK_DISABLED",
    "PYDANTIC_DISABLE_PLUGINS",
    "TERMINAL_WIDTH",
    "FORCE_COLOR",
    "PYTHONWARNINGS",
    "PYTHONINSPECT",
    "SSLKEYLOGFILE",
    "OPENSSL_CONF",
    "HF_TOKEN",
    "HF_HUB_ETAG_TIMEOUT",
    "PIP_INDEX_URL",
    "AWS_ACCESS_KEY_ID",
    "_LOOKALIKE_COMPLETE",
)


def test_variables_of_libraries_are_removed_and_those_of_the_table_stay() -> None:
    kept = {
        "LOOKALIKE_REDIS_URL": "redis://a",
        "HOME": "/home/ann",
        "LC_CTYPE": "C",
        "NOTIFY_SOCKET": "@a",
        "TZ": "UTC",
    }
    given = dict.fromkeys(OF_LIBRARIES, "nonsense") | kept
    environment.tidy(given)
    assert given == kept | environment.IS_SET


def test_what_lookalike_sets_stands_over_what_was_given() -> None:
    given = {"PYTHON_DOTENV_DISABLED": "0", "ORT_DISABLE_TELEMETRY": "0"}
    environment.tidy(given)
    assert given == {"PYTHON_DOTENV_DISABLED": "1", "ORT_DISABLE_TELEMETRY": "1"}


def test_a_name_stands_for_itself_alone_unless_it_ends_in_a_star() -> None:
    assert environment.tidied({"HOMEWORK": "1", "TERMINAL_WIDTH": "1", "LANGUAGES": "1"}) == environment.IS_SET


def test_a_variable_without_a_name_does_no_harm() -> None:
    given = {"": "x", "MILVUS_URI": "./milvus.db"}
    environment.tidy(given)
    assert given == {"": "x"} | environment.IS_SET


def test_a_download_gets_back_what_it_may_read_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_removed", {})
    wanted = {"https_proxy": "http://proxy:3128", "HF_TOKEN": "hf_a", "PIP_INDEX_URL": "https://mirror/simple"}
    given = wanted | {"MILVUS_URI": "./milvus.db", "HF_HUB_ETAG_TIMEOUT": "soon"}
    environment.tidy(given)
    assert given == environment.IS_SET
    environment.allow_downloads(given)
    assert given == wanted | environment.IS_SET


def test_what_python_has_read_already_is_undone_by_starting_anew() -> None:
    code = (
        "import os, sys, warnings; from daemon import environment; environment.begin(); warnings.warn('old'); "
        "print(sys.flags.inspect, sys.flags.optimize, sys.flags.dev_mode, sys.argv[1:], os.getpid())"
    )
    variables = {"PYTHONWARNINGS": "error", "PYTHONINSPECT": "1", "PYTHONOPTIMIZE": "2", "PYTHONDEVMODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, "a b", ""],
        env=dict(os.environ) | variables,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, f"0 0 False ['a b', ''] {process.pid}\n")
    assert "UserWarning: old" in complained


def test_every_variable_that_lookalike_reads_may_act() -> None:
    pattern = re.compile(r"""(?:environ|environment|given)(?:\.get|\.pop)?[(\[]\s*"([A-Z][A-Z_]+)\"""")
    read = {
        name
        for directory in ("daemon", "cli")
        for source in (ROOT / directory).rglob("*.py")
        for name in pattern.findall(source.read_text(encoding="utf-8"))
    }
    assert {"HOME", "LOOKALIKE_SOCKET", "NOTIFY_SOCKET", "NO_COLOR", "JOURNAL_STREAM", "SUDO_USER"} <= read
    kept = environment.tidied(dict.fromkeys(read, ""))
    assert read - kept.keys() == set()


@pytest.mark.parametrize("module", ["daemon.main", "cli.main"])
def test_no_library_that_reads_the_environment_is_imported_before_it_is_tidy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    readers = {
        "PIL",
        "dotenv",
        "faiss",
        "grpc",
        "httpx",
        "huggingface_hub",
        "milvus_lite",
        "numpy",
        "onnx",
        "onnxruntime",
        "pandas",
        "pillow_heif",
        "prometheus_client",
        "pyarrow",
        "pymilvus",
        "redis",
        "requests",
        "starlette",
        "uvicorn",
    }
    assert set(loaded) & readers == set()


def test_the_page_has_every_variable_and_its_reason() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for rule in (*environment.MAY_ACT, *environment.MAY_ACT_ON_DOWNLOADS):
        names = ", ".join(f"`{name}`" for name in rule.names)
        assert f"| {names} | {rule.reader} | {rule.reason} |" in page


def test_a_dotenv_file_is_not_read(tmp_path: Path) -> None:
    """Import pymilvus from a directory below which a hostile .env lies, as one may lie above an installation."""
    packages = Path(sys.modules["pytest"].__file__ or "").parents[1]
    (tmp_path / "packages").symlink_to(packages)
    (tmp_path / ".env").write_text("MILVUS_URI=nonsense\nLOOKALIKE_REDIS_URL=redis://nowhere\n")
    code = (
        "import os; from daemon import environment; environment.tidy(); import pymilvus; "
        "print(pymilvus.__file__, [name for name in os.environ if 'MILVUS' in name or 'LOOKALIKE' in name])"
    )
    variables = {"PYTHONPATH": os.pathsep.join((str(tmp_path / "packages"), str(ROOT))), "PYTHON_DOTENV_DISABLED": "no"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"]} | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(maxsplit=1)[0].startswith(str(tmp_path))
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"


@pytest.mark.parametrize(("given", "kept"), [(0o000, 0o022), (0o002, 0o022), (0o077, 0o077)])
def test_nobody_else_may_write_what_a_program_makes(given: int, kept: int) -> None:
    code = "import os; from daemon import environment; environment.begin(); print(os.umask(0))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, umask=given, capture_output=True, check=True, text=True
    )
    assert int(done.stdout) == kept
