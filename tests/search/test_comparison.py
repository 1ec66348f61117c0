"""What samplers found, side by side: the best of all is the result, whoever proposed it."""

import pytest

from onnxprune.search.comparison import compared, failures, proposers, winner
from onnxprune.search.evaluation import Evaluation


def judged(*scores, first=0, rung=0):
    return [Evaluation(n, (first + n,), rung=rung, figures={"score": score}) for n, score in enumerate(scores)]


def failed(count):
    return [Evaluation(n, (n,), failure=f"no {n}") for n in range(count)]


def test_the_best_of_all_is_the_result_and_bees_do_not_win():
    found = {"bees": [judged(0.5, 0.7)], "random": [judged(0.2, 0.9, first=50)]}
    assert winner(found) == found["random"][0][1] and winner(found, "bees").score == 0.7
    assert proposers(found, winner(found)) == ["random"]
    assert compared(found)[1].text == "bees do not win (-0.2000, one seed)"


def test_ties_are_credited_to_all():
    found = {"bees": [judged(0.9)], "random": [judged(0.2, 0.9, first=7)], "uniform": [judged(0.4)]}
    assert proposers(found, winner(found)) == ["bees", "random", "uniform"]  # equal, as good, and the same structure
    assert [row.text for row in compared(found)] == ["", "a tie (+0.0000, one seed)", "bees lead (+0.5000, one seed)"]


def test_leads_are_by_the_seeds_that_both_ended():
    found = {"bees": [judged(0.5), judged(0.7), judged(0.9)], "random": [judged(0.4), failed(2), judged(0.7)]}
    row = compared(found)[1]
    assert row.scores == (0.4, None, 0.7) and row.mean == pytest.approx(0.55)
    assert row.lead[0] == pytest.approx(0.15) and row.text == "no difference can be told (+0.1500 ± 0.6353)"
    assert failures(found) == {"random": {"count": [0, 2, 0], "first": "no 0"}}


def test_a_score_of_a_lower_rung_is_not_compared():
    found = {"bees": [judged(0.5, rung=1)], "random": [judged(0.9, rung=0)]}
    assert winner(found).score == 0.5 and compared(found)[1].scores == (None,)


def test_intervals_tell_who_wins():
    found = {"bees": [judged(0.9), judged(0.91)], "random": [judged(0.5), judged(0.51)], "evolution": [judged(1.0)] * 2}
    texts = {row.sampler: row.text for row in compared(found)}
    assert texts["random"].startswith("bees win (+0.4000 ± 0.0") and texts["evolution"].startswith("bees lose (-0.09")
