"""The onnxruntime check, on folders that hold nothing but the wheels' metadata."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from onnxprune import environment
from onnxprune.environment import RuntimeInfo, check_runtime, describe
from onnxprune.errors import UsageError


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make the given `name-version` distributions the only ones that this process sees."""

    def make(*wheels: str) -> None:
        for wheel in wheels:
            name, _, version = wheel.rpartition("-")
            info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        environment.installed.cache_clear()

    yield make
    environment.installed.cache_clear()


@pytest.mark.parametrize("name", environment.WHEELS)
def test_one_wheel_is_reported_with_its_version(install, name):
    install(f"{name}-1.23.4", "onnxruntime-extensions-0.14.0", "numpy-2.1.0")
    assert check_runtime() == RuntimeInfo(name, "1.23.4")


def test_none_installed(install):
    install("numpy-2.1.0", "onnxruntime-extensions-0.14.0")
    with pytest.raises(UsageError, match="onnxruntime is not installed") as caught:
        check_runtime()
    assert "pip install 'onnxprune[cpu]'" in caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"])
def test_two_side_by_side(install, other):
    install("onnxruntime-1.32.0", f"{other}-1.31.1")
    listed = re.escape(f"side by side: onnxruntime 1.32.0, {other} 1.31.1")
    with pytest.raises(UsageError, match=listed) as caught:
        check_runtime()
    assert caught.value.fix == f"pip uninstall -y onnxruntime {other} && pip install {other}"


def test_three_side_by_side_are_all_uninstalled(install):
    install("onnxruntime-1.32.0", "onnxruntime-gpu-1.31.1", "onnxruntime-openvino-1.30.0")
    with pytest.raises(UsageError, match="side by side") as caught:
        check_runtime()
    assert "uninstall -y onnxruntime onnxruntime-gpu onnxruntime-openvino &&" in caught.value.fix


def test_describe_names_versions_and_hardware(install):
    install("onnx-1.22.0", "numpy-2.1.0", "onnxruntime-gpu-1.31.1")
    facts = describe()
    assert list(facts) == ["python", "platform", "cpu", "cores", "onnx", "numpy", "onnxruntime"]
    assert facts["onnx"] == "1.22.0" and facts["numpy"] == "2.1.0"
    assert facts["onnxruntime"] == "onnxruntime-gpu 1.31.1"
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(facts["cores"], int) and facts["cores"] >= 1
    assert facts["cpu"]


def test_describe_works_without_a_runtime(install):
    install("onnx-1.22.0", "numpy-2.1.0")
    assert describe()["onnxruntime"] == "none"


def test_describe_names_no_host_and_no_folder():
    text = " ".join(map(str, describe().values()))
    assert environment.platform.node() not in text.split()
    assert str(Path.home()) not in text and str(Path.cwd()) not in text


def test_cpu_model_comes_from_cpuinfo_or_the_platform(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(environment.platform, "processor", lambda: "")
    monkeypatch.setattr(environment.platform, "machine", lambda: "aarch64")
    assert describe()["cpu"] == "aarch64"
    environment.CPUINFO.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nmodel name\t: Other\n")
    assert describe()["cpu"] == "Some CPU @ 2.0GHz"


def test_the_package_imports_without_onnxruntime():
    # It is an extra: whoever lacks it must meet the check's message, not an ImportError.
    code = "import sys; sys.modules['onnxruntime'] = None; from onnxprune import environment; environment.describe()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.returncode == 0, run.stderr
