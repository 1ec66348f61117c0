"""What the benchmarks share."""

from pathlib import Path

import pytest

from benchmarks import common, peers
from benchmarks.common import Stopwatch


def test_sides_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    def side(name: str) -> common.Side:
        def call(watch: Stopwatch) -> None:
            with watch("step"):
                calls.append(name)

        return call

    watches = common.in_turns({"a": side("a"), "b": side("b")}, 2, between=lambda: None)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert {name: len(w) for name, w in watches.items()} == {"a": 2, "b": 2}
    assert common.laps(watches["a"])["step"] == common.seconds(watches["a"]) > 0


def test_the_ratio_is_taken_within_rounds() -> None:
    def watch(seconds: float) -> Stopwatch:
        made = Stopwatch()
        made.laps["step"] = seconds
        return made

    assert common.ratio([watch(1), watch(10), watch(3)], [watch(2), watch(20), watch(3)]) == 0.5


def test_checks() -> None:
    assert common.at_most("time", 1.0, 1.0).passed
    assert not common.at_most("time", 1.01, 1.0).passed
    assert common.at_most("time", None, 1.0).measured == "nothing measured"
    assert common.all_of("models", [True, True], 2).passed
    assert not common.all_of("models", [True], 2).passed, "one was not measured"
    assert not common.all_of("models", [True, True, False], 2).passed


def test_peak_memory_counts_this_process() -> None:
    block = bytearray(64 << 20)
    assert common.peak_memory() > len(block) / 1e6


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"oracle\.py is not there"):
        common.load_module(tmp_path / "oracle.py")


@pytest.mark.parametrize(
    ("name", "required"),
    [("resnet18", 72.9), ("vgg11_bn", 53.4), ("convnext_tiny", 44.3), ("vit_b_16", 49.0), ("shufflenet_v2_x1_0", 14.3)],
)
def test_what_is_required_follows_the_better_exact_rival(name: str, required: float) -> None:
    assert peers.PEERS[name].required == pytest.approx(required)
    assert len(peers.PEERS) == 26
