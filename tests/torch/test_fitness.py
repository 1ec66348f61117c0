"""Fitnesses: of the smaller copy, the same for the same mask, and the network itself is left alone."""

import random

import numpy as np
import pytest
import torch

import onnxprune
from onnxprune.search.structures import Structures, Widths
from onnxprune.torch.binding import bind
from onnxprune.torch.fitness import Recalibrated, Trained
from onnxprune.torch.gates import Gated
from onnxprune.torch.handover import load_weights
from onnxprune.torch.jobs import Place
from onnxprune.torch.methods import fine_tune
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.tasks import Digits

RECIPE = Recipe(1, batch=128, lr=0.05, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    fine_tune(Digits(), Recipe(4, batch=64, lr=0.1, device="cpu"), Place(folder))
    network = Digits().model()
    load_weights(network, folder / "best.pt")
    return network, bind(network, Digits().example())


def test_the_whole_network_keeps_its_score(trained):
    network, binding = trained
    fitness = Recalibrated(Digits(), network, binding, RECIPE)
    whole = onnxprune.choose(binding.analysis, keep=1.0)
    assert fitness(whole)["score"] == pytest.approx(fitness.score(network), abs=0.05)
    assert fitness(whole)["score"] > 0.9


def test_statistics_measured_anew_help_and_the_network_stays(trained):
    network, binding = trained
    before = {name: t.clone() for name, t in network.state_dict().items()}
    fitness = Recalibrated(Digits(), network, binding, RECIPE)
    mask = onnxprune.choose(binding.analysis, keep=0.7)
    gated = Gated(network, binding)
    gated.set_mask(mask)
    assert fitness(mask)["score"] > fitness.score(gated)
    assert fitness(mask) == fitness(mask)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_the_smaller_copy_is_as_large_as_the_mask_says(trained):
    network, binding = trained
    fitness = Recalibrated(Digits(), network, binding, RECIPE)
    mask = onnxprune.choose(binding.analysis, keep=0.5)
    for _ in range(2):  # the first one is tried against the gated network
        small = fitness.smaller(mask)
        assert {p.shape[0] for p in small.parameters() if p.ndim == 4} == {8, 16}


def test_training_helps_and_depends_on_the_seed_alone(trained):
    network, binding = trained
    mask = onnxprune.choose(binding.analysis, keep=0.4, score="random")
    fitness = Trained(Digits(), network, binding, RECIPE)
    quick = Recalibrated(Digits(), network, binding, RECIPE)
    assert fitness(mask, 1)["score"] > quick(mask)["score"]
    one, two, other = (fitness.network_for(mask, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(t, two[name]) for name, t in one.items())
    assert not all(torch.equal(t, other[name]) for name, t in one.items())


def test_a_structure_keeps_the_units_of_largest_weights(trained):
    """The binding has the network's own weights, though its export was of others (equal ones would be merged)."""
    network, binding = trained
    structures = Structures(binding.analysis, Widths(), {})
    weights = {name: p.detach().abs().sum((1, 2, 3)).numpy() for name, p in network.named_parameters() if p.ndim == 4}
    made = {
        g.name: [ly.parameter for ly in binding.lying(g) if ly.makes and ly.parameter in weights]
        for g in structures.groups
    }
    group = next(g for g in structures.groups if len(made[g.name]) == 1)
    norms = weights[made[group.name][0]]
    half = tuple(4 for _ in structures.groups)
    kept = structures.units(half)[group.name]
    assert 0 < kept.sum() < group.size and norms[kept].min() >= norms[~kept].max()


def test_samples_are_the_same_whatever_was_drawn_before(trained):
    network, binding = trained
    found = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        fitness = Recalibrated(Digits(), network, binding, RECIPE)
        found.append(torch.cat(fitness._calibration))
        assert np.random.rand() == np.random.RandomState(seed).rand()
    assert torch.equal(*found)
