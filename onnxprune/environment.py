"""Which onnxruntime is installed, and the facts of this machine that go into reports.

onnxruntime comes as several wheels that all install the same `onnxruntime` folder: with two of them the files of
one overwrite the other's, and the runtime is broken or silently lacks its device. Only their metadata is read
here; nothing is imported, so the check also works where the import would crash.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from onnxprune.errors import UsageError

WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-training",
)
"""Distributions that install the folder `onnxruntime`."""

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class RuntimeInfo:
    """An installed onnxruntime.

    Attributes:
        distribution: the wheel's name, such as `onnxruntime-gpu`.
        version: its version.
    """

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def check_runtime() -> RuntimeInfo:
    """The one onnxruntime that is installed.

    Raises:
        UsageError: none is installed, or several are, side by side; with the commands that mend it.
    """
    found = list(_runtimes())
    if not found:
        raise UsageError(
            "onnxruntime is not installed; expected one of its wheels, got none",
            "pip install 'onnxprune[cpu]' (or 'onnxprune[gpu]' for NVIDIA GPUs)",
        )
    if len(found) > 1:
        raise UsageError(
            f"several onnxruntime wheels are installed side by side: {', '.join(map(str, found))}; "
            "expected one, as they overwrite each other's files",
            _reinstall(found),
        )
    return found[0]


@cache
def installed(name: str) -> str | None:
    """The version of a distribution, None for one that is not there; read once, as that takes milliseconds."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def own_version() -> str:
    """The version of onnxprune."""
    return installed("onnxprune") or "unknown"


def describe() -> dict[str, str | int]:
    """Facts for reports: versions and hardware, no names of hosts, users or folders."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": _cores(),
        "onnx": installed("onnx") or "none",
        "numpy": installed("numpy") or "none",
        "onnxruntime": ", ".join(map(str, _runtimes())) or "none",
    }


def _runtimes() -> Iterator[RuntimeInfo]:
    for name in WHEELS:
        if version := installed(name):
            yield RuntimeInfo(name, version)


def _reinstall(found: list[RuntimeInfo]) -> str:
    # Uninstalling one alone takes files of the other with it, so all go and one comes back: the special one,
    # which was asked for by name, as the plain wheel arrives as a dependency of other packages.
    names = [info.distribution for info in found]
    return f"pip uninstall -y {' '.join(names)} && pip install {names[-1]}"


def _cpu_model() -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine's."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1
