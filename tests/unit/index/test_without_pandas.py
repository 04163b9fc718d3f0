"""pymilvus without pandas: it answers as ever, and imports pandas once it needs it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

IMPORTED = (
    "import sys; from daemon.index.without_pandas import without_pandas\nwith without_pandas(): import pymilvus\n"
)


def said(program: str) -> str:
    """Return what a program prints after it has imported pymilvus."""
    done = subprocess.run([sys.executable, "-c", IMPORTED + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pymilvus_is_imported_without_pandas_and_pyarrow() -> None:
    assert said("print({'pandas', 'pandas.api', 'pandas.api.types', 'pyarrow'} & set(sys.modules))") == "set()"


def test_what_pymilvus_asks_pandas_for_is_what_pandas_says() -> None:
    program = """
from pymilvus.orm import schema, types
told = [schema.is_valid_insert_data([1]), schema.is_valid_insert_data(1), "pandas" in sys.modules]
told += [types.infer_dtype_bydata(1.5).name, types.infer_dtype_bydata([0.5, 1.5]).name, "pandas" in sys.modules]
import pandas
told += [schema.is_valid_insert_data(pandas.DataFrame({"a": [1]})), schema.is_valid_insert_data(1)]
print(*told)
"""
    assert said(program) == "True False False DOUBLE FLOAT_VECTOR True True False"


def test_pandas_that_is_there_already_is_used() -> None:
    program = "import sys, pandas; from daemon.index.without_pandas import without_pandas\nwith without_pandas(): print(sys.modules['pandas'] is pandas)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["pandas", "pandas.api.types"])
def test_the_next_import_gets_the_real_one(name: str) -> None:
    assert said(f"import {name}; print(bool({name}.__file__))") == "True"


def test_a_process_that_does_without_pandas_reads_and_writes_tables(tmp_path: Path) -> None:
    program = f"""
from daemon.index.without_pandas import never_import_pandas
never_import_pandas()
import numpy, pyarrow, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.table({{"a": pyarrow.array(numpy.arange(3.0))}}), {str(tmp_path / "t")!r})
print(pyarrow.parquet.read_table({str(tmp_path / "t")!r}).to_pydict(), "pandas" in sys.modules)
"""
    assert said(program) == "{'a': [0.0, 1.0, 2.0]} False"
