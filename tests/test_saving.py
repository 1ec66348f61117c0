"""Saving: old data files, outputs that are refused, failures, crashes and memory."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from onnxprune import saving
from onnxprune.errors import ModelError, OutputError
from onnxprune.files import read_model, write_model
from tests.stored import WEIGHT, external, inline, model_of, stored, values, with_data

ROOT = Path(__file__).parents[1]


def saved_twice(folder: Path, between: Callable[[Path], object]) -> list[str]:
    """Saves two different models to n.onnx; the names of the data files that are left."""
    source = with_data(folder, external("w", [4, 6], "w.bin"))
    target = folder / "n.onnx"
    write_model(read_model(source), target, {}, source)
    between(folder)
    (folder / "w.bin").write_bytes((WEIGHT + 1).tobytes())
    write_model(read_model(source), target, {}, source)
    np.testing.assert_array_equal(values(read_model(target), folder)["w"], WEIGHT + 1)
    return sorted(name for name in os.listdir(folder) if name.endswith(".data"))


def test_old_data_file_is_removed(tmp_path):
    assert len(saved_twice(tmp_path, lambda folder: None)) == 1


def test_old_data_file_stays_while_another_model_uses_it(tmp_path):
    names = saved_twice(tmp_path, lambda folder: (folder / "copy.onnx").write_bytes((folder / "n.onnx").read_bytes()))
    assert len(names) == 2
    np.testing.assert_array_equal(values(read_model(tmp_path / "copy.onnx"), tmp_path)["w"], WEIGHT)


def test_files_that_the_old_model_did_not_use_stay(tmp_path):
    names = saved_twice(tmp_path, lambda folder: (folder / "n-0123456789ab.data").write_bytes(b"mine"))
    assert "n-0123456789ab.data" in names and len(names) == 2
    assert (tmp_path / "w.bin").exists()


def test_saving_the_same_again_keeps_its_data(tmp_path):
    source = with_data(tmp_path, external("w", [4, 6], "w.bin"))
    for _ in range(2):
        write_model(read_model(source), tmp_path / "n.onnx", {}, source)
    np.testing.assert_array_equal(values(read_model(tmp_path / "n.onnx"), tmp_path)["w"], WEIGHT)


@pytest.mark.parametrize("alias", ["m.onnx", "soft.onnx", "hard.onnx", "sub/../m.onnx", "w.bin"])
def test_input_is_never_the_output(tmp_path, alias):
    source = with_data(tmp_path, external("w", [4, 6], "w.bin"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "soft.onnx").symlink_to("m.onnx")
    os.link(source, tmp_path / "hard.onnx")
    before = source.read_bytes(), (tmp_path / "w.bin").read_bytes()
    with pytest.raises(OutputError, match=r"the output is the input .*never changed\n  fix: choose another path"):
        write_model(read_model(source), tmp_path / alias, {}, source)
    assert (source.read_bytes(), (tmp_path / "w.bin").read_bytes()) == before


def test_missing_output_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"n\.onnx: there is no folder .*nowhere\n  fix: create it first"):
        write_model(model_of([inline(WEIGHT)]), tmp_path / "nowhere" / "n.onnx", {}, None)


def test_output_folder_as_file_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"expected a file to write, got a folder\n  fix: add a file name"):
        write_model(model_of([inline(WEIGHT)]), tmp_path, {}, None)


def test_device_as_output_is_refused(tmp_path):
    os.mkfifo(tmp_path / "n.onnx")
    with pytest.raises(OutputError, match="exists and is not a regular file"):
        write_model(model_of([inline(WEIGHT)]), tmp_path / "n.onnx", {}, None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"cannot be written: Permission denied\n  fix: check the folder's permiss"):
        write_model(model_of([inline(WEIGHT)]), tmp_path / "n.onnx", {}, None)


@contextmanager
def file_size_limit(size: int):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("place", ["inline", "external"])
def test_failing_write_leaves_the_old_model_and_nothing_else(tmp_path, place):
    big = np.zeros((500, 1000), np.float32)
    source = stored(tmp_path, model_of([inline(big) if place == "inline" else external("w", [500, 1000], "big.bin")]))
    (tmp_path / "big.bin").write_bytes(big.tobytes())
    (tmp_path / "to").mkdir()
    target = stored(tmp_path / "to", model_of([inline(WEIGHT)]))
    before = target.read_bytes()
    with file_size_limit(1_000_000), pytest.raises(OutputError, match=r"m\.onnx: cannot be written: File too large\n"):
        write_model(read_model(source), target, {}, source)
    assert os.listdir(tmp_path / "to") == ["m.onnx"] and target.read_bytes() == before


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"No space left on device\n  fix: free some disk space"),
        (errno.EACCES, r"Permission denied\n  fix: check the folder's permissions"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_system_errors_are_told_and_cleaned_up(tmp_path, monkeypatch, number, message, step):
    source = with_data(tmp_path, external("w", [4, 6], "w.bin"))
    model, before = read_model(source), sorted(os.listdir(tmp_path))

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(saving.os, step, fail)
    with pytest.raises(OutputError, match=rf"n\.onnx: cannot be written: {message}"):
        write_model(model, tmp_path / "n.onnx", {}, source)
    assert sorted(os.listdir(tmp_path)) == before


def test_failing_last_rename_takes_the_data_file_back(tmp_path, monkeypatch):
    source = with_data(tmp_path, external("w", [4, 6], "w.bin"))
    model, before, replace = read_model(source), sorted(os.listdir(tmp_path)), os.replace

    def fail(old: Path, new: Path) -> None:
        if Path(new).suffix == ".onnx":
            raise OSError(errno.EIO, "broken")
        replace(old, new)

    monkeypatch.setattr(saving.os, "replace", fail)
    with pytest.raises(OutputError, match="broken"):
        write_model(model, tmp_path / "n.onnx", {}, source)
    assert sorted(os.listdir(tmp_path)) == before


def test_data_that_shrinks_while_saving_is_a_model_error(tmp_path):
    source = with_data(tmp_path, external("w", [4, 6], "w.bin"))
    model = read_model(source)
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match="too short for tensor 'w'"):
        write_model(model, tmp_path / "n.onnx", {}, source)
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "w.bin"]


SAVE_FOREVER = """
import sys
from pathlib import Path
from onnxprune.files import read_model, write_model
folder = Path(sys.argv[1])
sources = [folder / "a.onnx", folder / "b.onnx"]
models = [read_model(path) for path in sources]
print("ready", flush=True)
while True:
    for model, source in zip(models, sources):
        write_model(model, folder / "to" / "n.onnx", {}, source)
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("place", ["inline", "external"])
def test_kill_while_saving_leaves_the_old_or_the_new_model(tmp_path, place):
    for name, value in (("a", 1.0), ("b", 2.0)):
        array = np.full((1000, 1000), value, np.float32)
        (tmp_path / f"{name}.bin").write_bytes(array.tobytes())
        tensor = inline(array) if place == "inline" else external("w", [1000, 1000], f"{name}.bin")
        stored(tmp_path, model_of([tensor]), f"{name}.onnx")
    (tmp_path / "to").mkdir()
    write_model(read_model(tmp_path / "a.onnx"), tmp_path / "to" / "n.onnx", {}, tmp_path / "a.onnx")
    rng = random.Random(0)
    for _ in range(6):
        with python(SAVE_FOREVER, tmp_path) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        (array,) = values(read_model(tmp_path / "to" / "n.onnx"), tmp_path / "to").values()
        assert array.shape == (1000, 1000) and (array == array[0, 0]).all() and array[0, 0] in (1.0, 2.0)


SAVE_HALF = """
import sys
from pathlib import Path
import numpy as np
from onnxprune.files import read_model, write_model
from onnxprune.lazy import LazySlice, nonfinite_tensors
source, target = map(Path, sys.argv[1:])
model = read_model(source)
assert not nonfinite_tensors(model, source.parent)
whole, cut = model.graph.initializer
half = tuple(np.arange(0, size, 2) for size in cut.dims)
write_model(model, target, {cut.name: LazySlice(cut, source.parent, half)}, source)
# Of this process alone: ru_maxrss is handed on from the one that started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_external_data_is_streamed_in_little_memory(tmp_path):
    rows, columns = 5000, 5000
    for name in "ab":
        with open(tmp_path / f"{name}.bin", "wb") as file:
            for row in range(rows):
                file.write(np.arange(row, row + columns, dtype=np.float32).tobytes())
    source = stored(tmp_path, model_of([external(name, [rows, columns], f"{name}.bin") for name in "ab"]))
    with python(SAVE_HALF, source, tmp_path / "n.onnx") as process:
        peak = int(process.communicate()[0]) / 1024
    assert process.returncode == 0 and peak < 150, f"{peak} MB for 200 MB of weights"
    after = values(read_model(tmp_path / "n.onnx"), tmp_path)
    assert after["a"].shape == (rows, columns) and after["a"][-1, -1] == rows + columns - 2
    np.testing.assert_array_equal(after["b"][7], np.arange(14, 14 + columns, 2, dtype=np.float32))
