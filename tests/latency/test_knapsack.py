"""The knapsack against all structures there are, on costs that couple neighbours."""

from itertools import pairwise, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.latency.knapsack import Item, bargain, pack

LEVELS = 4


class Chain:
    """Every layer costs the product of the widths on its sides, rounded up to whole steps."""

    def __init__(self, sizes, step, share):
        self.names, self.step = [str(k) for k in range(len(sizes))], step
        self.whole = dict(zip(self.names, sizes, strict=True))
        self.limit = share * self.cost(self.whole)

    def cost(self, widths):
        padded = [1, *(-(-widths[name] // self.step) * self.step for name in self.names), 1]
        return float(sum(a * b for a, b in pairwise(padded)))

    def used(self, widths):
        return self.cost(widths) / self.limit

    def fits(self, widths):
        return self.used(widths) <= 1

    def along(self, name, levels, widths):
        return np.array([self.cost({**widths, name: level}) for level in levels]) / self.limit


def problem(seed):
    """Two to four layers with scores at random, and a few widths for each."""
    numbers = np.random.default_rng(seed)
    sizes = numbers.integers(4, 41, numbers.integers(2, 5)).tolist()
    chain = Chain(sizes, int(numbers.choice([1, 4, 8])), float(numbers.uniform(0.05, 1)))
    items = []
    for name, size in chain.whole.items():
        widths = np.unique(np.linspace(1, size, LEVELS).astype(int))
        sums = np.cumsum(np.sort(numbers.uniform(0.01, 2, size))[::-1])
        items.append(Item(name, widths, sums[widths - 1]))
    return chain, items


def worth(items, widths):
    return sum(float(item.worth[np.searchsorted(item.widths, widths[item.name])]) for item in items)


def all_that_fit(chain, items):
    every = (dict(zip(chain.names, map(int, widths), strict=True)) for widths in product(*(i.widths for i in items)))
    return [widths for widths in every if chain.fits(widths)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_it_fits_and_has_no_room_for_a_wider_step(seed):
    chain, items = problem(seed)
    found = pack(items, chain, chain.whole)
    if found is None:
        assert not all_that_fit(chain, items)
        return
    assert chain.fits(found) and found.keys() == chain.whole.keys()
    for item in items:
        wider = item.widths[item.widths > found[item.name]]
        assert not len(wider) or not chain.fits({**found, item.name: int(wider[0])})


def test_it_is_nearly_as_good_as_the_best_there_is():
    shares = []
    for seed in range(100):
        chain, items = problem(seed)
        if found := pack(items, chain, chain.whole):
            shares.append(worth(items, found) / max(worth(items, widths) for widths in all_that_fit(chain, items)))
    assert len(shares) > 80 and np.mean(shares) > 0.995 and np.min(shares) > 0.85


def test_without_a_limit_all_stays():
    chain = Chain([8, 16], 4, 1.0)
    items = [Item(name, np.arange(1, size + 1), np.arange(1.0, size + 1)) for name, size in chain.whole.items()]
    assert pack(items, chain, chain.whole) == chain.whole
    assert bargain(items, chain, chain.whole) == {"0": 4, "1": 4}, "as wide as costs nothing more"
