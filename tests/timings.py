"""Made-up timings."""

from onnxprune.latency import Comparison, Interval, Timing


def exact(value: float) -> Interval:
    return Interval(value, value, value)


def timing(name: str, median: float, ratio: float, p99: float, slowest: float, spread: float = 0.0) -> Timing:
    return Timing(
        name=name,
        seconds=exact(median),
        percentiles={"p90": exact(median), "p95": exact(median), "p99": exact(p99)},
        slowest=slowest,
        ratio=exact(ratio),
        spread=spread,
        params=100,
        macs=2000,
        bytes=400,
        difference=0.0,
        build=0.1,
        first=0.01,
        placement={"CPUExecutionProvider": 3},
    )


def comparison(*timings: Timing) -> Comparison:
    return Comparison(
        models=timings,
        floor=exact(1.0),
        rounds=11,
        warm_up=3,
        stopped="after 11 rounds",
        runtime="onnxruntime 1.0",
        options={},
        threads=0,
        seed=0,
        sizes={},
        machine={"clock_mhz": None, "clocks": "unknown"},
    )
