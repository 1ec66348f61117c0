"""What a machine tells, from files as Linux writes them; what it does not tell is None, never made up."""

import os
import subprocess
import sys
import time

import pytest

from onnxprune.latency import machine, sensors
from onnxprune.latency.machine import Counters, Watch


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """Write the files of a machine; without any, it tells nothing."""
    for name in ("CPUS", "THERMAL", "POWERCAP", "PROC"):
        monkeypatch.setattr(sensors, name, tmp_path / name)

    def write(place: str, text: str | int) -> None:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    return write


def test_a_machine_that_tells_nothing(linux):
    with Watch() as watch:
        pass
    found = watch.found()
    assert found.pop("clocks") == "unknown"
    assert found.pop("affinity") is None or sys.platform == "linux"
    assert set(found.values()) == {None}
    names = "clock_mhz power_w temperature_c throttlings cores_busy_with_other_work other_processes gpu"
    assert found.keys() == set(names.split())


def test_clocks_and_temperatures_are_told_from_end_to_end(linux):
    for core, clock in enumerate((800_000, 3_500_000)):
        linux(f"CPUS/cpu{core}/cpufreq/scaling_cur_freq", clock)
        linux(f"CPUS/cpu{core}/cpufreq/scaling_min_freq", 800_000)
        linux(f"CPUS/cpu{core}/cpufreq/scaling_max_freq", 3_500_000)
    linux("THERMAL/thermal_zone0/temp", 41_000)
    with Watch() as watch:
        time.sleep(0.02)
    found = watch.found()
    assert (found["clock_mhz"], found["temperature_c"], found["clocks"]) == ([800, 3500], [41, 41], "floating")
    linux("CPUS/cpu0/cpufreq/scaling_min_freq", 3_500_000)
    linux("CPUS/cpu1/cpufreq/scaling_min_freq", 3_500_000)
    assert sensors.clock_state() == "locked"


def test_without_a_governor_the_clocks_are_those_of_cpuinfo(linux):
    linux("PROC/cpuinfo", "processor : 0\ncpu MHz\t\t: 2445.4\nprocessor : 1\ncpu MHz\t\t: 2100.0")
    assert sensors.clocks() == [2445.4, 2100.0]


def stat(name: str, parent: int, user: int, system: int) -> str:
    """A line of /proc/<pid>/stat, up to the times."""
    return f"7 ({name}) S {parent} " + "0 " * 9 + f"{user} {system} 0"


def test_processes_are_the_others(linux, monkeypatch):
    monkeypatch.setattr(sensors, "_ticks", lambda: 100)
    linux("PROC/7/stat", stat("a (b) c", 1, 150, 50))
    linux(f"PROC/{os.getpid()}/stat", stat("own", 1, 900, 0))
    linux("PROC/9/stat", stat("child", os.getpid(), 900, 0))
    assert sensors.processes() == {7: ("a (b) c", 2.0)}


def counters(moment: float, **given) -> Counters:
    return Counters(
        moment, *({"busy": None, "own": 0.0, "joules": None, "throttlings": None, "processes": {}} | given).values()
    )


def test_what_others_took_is_told_by_name():
    p = sensors.Process
    before = counters(0.0, busy=10.0, own=1.0, processes={1: p("idle", 5.0), 2: p("build", 1.0)})
    after = counters(2.0, busy=14.0, own=2.0, processes={1: p("idle", 5.0), 2: p("build", 2.5), 3: p("new", 0.5)})
    assert machine._others(before, after) == 1.5
    assert machine._busiest(before, after) == [{"name": "build", "cores": 0.75}, {"name": "new", "cores": 0.25}]


def test_power_is_the_mean_of_all_packages_and_unknown_where_a_counter_began_again():
    before = counters(0.0, joules=[100.0, 20.0])
    assert machine._watts(before, counters(2.0, joules=[160.0, 60.0])) == 50.0
    assert machine._watts(before, counters(2.0, joules=[5.0, 60.0])) is None
    assert machine._watts(before, counters(2.0)) is None


def test_power_and_throttling_are_read(linux):
    linux("POWERCAP/intel-rapl:0/energy_uj", 5_000_000)
    linux("POWERCAP/intel-rapl:0:0/energy_uj", 1_000_000)  # a part of the package
    for core in (0, 1):
        linux(f"CPUS/cpu{core}/thermal_throttle/core_throttle_count", 3)
    assert sensors.joules() == [5.0] and sensors.throttlings() == 6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_busy_process_is_seen():
    spin = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    # Its parent ends at once, so that it is nobody's child any more, as another user's program would be.
    silent = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    orphan = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {spin!r}], {silent}).pid)"
    done = subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True, check=True)
    try:
        with Watch() as watch:
            time.sleep(1.0)
        name = os.path.basename(sys.executable)[:15]  # as much as Linux keeps
        found = watch.found()
        assert any(row["name"] == name and row["cores"] > 0.05 for row in found["other_processes"]), found
        assert found["cores_busy_with_other_work"] > 0.05
    finally:
        os.kill(int(done.stdout), 9)
