"""A driver for GPUs that pretends to have one, as a real library with the real functions."""

import subprocess
from pathlib import Path
from shutil import which

import pytest

SOURCE = Path(__file__).with_name("driver.c")
COMPILER = which("cc") or which("gcc") or which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler to build the driver with")


def build_driver(folder: Path, **values: int) -> Path:
    """`libcuda.so.1` in a folder; `COUNT` devices, and `INIT` is what its start returns."""
    path = folder / "libcuda.so.1"
    defined = [f"-D{name}={value}" for name, value in values.items()]
    subprocess.run([str(COMPILER), "-shared", "-fPIC", *defined, "-o", str(path), str(SOURCE)], check=True)
    return path
