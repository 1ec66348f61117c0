"""GPUs through the driver: a library with the driver's functions stands in for it, so that all calls are real."""

import time

import numpy as np
import pytest

from onnxprune.errors import UsageError
from onnxprune.latency.runtimes import cuda
from onnxprune.latency.runtimes.cuda import Gpu, MemoryWatch, no_gpu
from onnxprune.latency.runtimes.events import timed_apart
from onnxprune.latency.runtimes.versions import gpu_versions, loaded, three
from tests.latency.drivers import build_driver, needs_compiler

pytestmark = needs_compiler


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Let a driver with some devices stand in for NVIDIA's."""

    def build(**values):
        monkeypatch.setattr(cuda, "DRIVER", str(build_driver(tmp_path, **values)))

    return build


@pytest.fixture
def gpu(driver):
    driver()
    return Gpu(0)


def test_what_a_gpu_is(gpu):
    assert no_gpu() is None
    assert gpu.name == "Pretended GPU (0, GPU-00010203-0405-0607-0809-0a0b0c0d0e0f)"
    assert gpu.driver_version == "13.2" and gpu_versions(gpu)["driver's CUDA"] == "13.2"


@pytest.mark.parametrize("values", [{"COUNT": 0}, {"INIT": 100}])
def test_a_driver_without_a_gpu_is_told(driver, values):
    driver(**values)
    assert "finds no GPU" in no_gpu().why


def test_a_gpu_that_is_not_there_is_refused(driver):
    driver(COUNT=2)
    with pytest.raises(UsageError, match="there is no GPU 2; there are 2") as caught:
        Gpu(2)
    assert caught.value.fix == "give --device 0 to 1"


def test_arrays_go_to_the_device_and_back(gpu):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    buffer = gpu.buffer(array.nbytes)
    buffer.write(array.transpose(2, 1, 0))
    assert (buffer.read((4, 3, 2), array.dtype) == array.transpose(2, 1, 0)).all()


def test_memory_is_given_back(gpu):
    before = gpu.free_memory()
    buffer = gpu.buffer(1000)
    assert gpu.free_memory() == before - 1000
    del buffer
    assert gpu.free_memory() == before


def test_too_much_memory_is_an_error_with_a_fix(gpu):
    with pytest.raises(UsageError, match="GPU 0: cuMemAlloc_v2 fails: CUDA_ERROR_OUT_OF_MEMORY") as caught:
        gpu.buffer(1 << 30)
    assert caught.value.fix == "use a smaller batch"


def test_the_peak_of_memory_is_seen_though_it_is_given_back(gpu):
    with MemoryWatch(gpu) as watch:
        buffer = gpu.buffer(5000)
        time.sleep(20 * cuda.EVERY)
        del buffer
    assert watch.taken == 5000


def test_events_tell_the_time_of_the_device(gpu):
    done = []
    assert gpu.stream().seconds(lambda: done.append(1)) == pytest.approx(0.002) and done == [1]


def test_host_device_and_copies_apart(gpu):
    found = timed_apart(gpu.stream(), lambda: time.sleep(0.001), lambda: time.sleep(0.003))
    assert 0.001 <= found.host < found.copy and found.copy >= 0.003
    assert found.device == pytest.approx(0.002)


def test_versions_are_those_of_loaded_libraries(tmp_path):
    (tmp_path / "maps").write_text(
        "7f00-7f01 r-xp 00000000 08:01 123    /usr/lib/my libs/libcudnn.so.9\n"
        "7f01-7f02 r--p 00000000 08:01 123    /usr/lib/my libs/libcudnn.so.9\n"
        "7f03-7f04 rw-p 00000000 00:00 0      [heap]\n"
    )
    assert list(loaded(tmp_path / "maps")) == ["/usr/lib/my libs/libcudnn.so.9"]
    assert list(loaded(tmp_path / "none")) == []
    assert (three(92001, 10000), three(101601, 10000)) == ("9.20.1", "10.16.1")
