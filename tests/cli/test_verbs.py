"""What every verb does and prints when all is well."""

import json
import re
import sys

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.environment import describe
from tests.cli.conftest import array_of, contents, document, network, with_tensor
from tests.micrographs import REGISTRY


def test_analyze_shows_groups_and_reasons(run):
    done = run("analyze", "model.onnx")
    assert done.exit_code == 0 and done.stderr == ""
    assert "model.onnx: 715 parameters, 14.72 k MACs, 2 groups" in done.stdout
    assert "conv1.w" in done.stdout and "83.2%" in done.stdout
    assert "Conv: is a spatial axis of a convolution" in done.stdout
    assert "'y' is an output of the graph" in done.stdout
    assert "conv2.w[1]" not in done.stdout


def test_analyze_all_shows_members_and_every_frozen_axis(run):
    done = run("analyze", "model.onnx", "--all")
    assert "conv2.w[1]" in done.stdout
    assert "Conv 'conv2': is a spatial axis of a convolution" in done.stdout


def test_analyze_says_where_nothing_can_go(run, folder):
    onnx.save(REGISTRY["eca_gate"]().model, folder / "micro.onnx")
    onnx.save(REGISTRY["residual_from_input"]().model, folder / "other.onnx")
    found = {name: document(run("analyze", name, "--json")) for name in ("micro.onnx", "other.onnx")}
    stuck = [name for name, content in found.items() if not content["groups"]]
    assert "Nothing can be removed" in run("analyze", "micro.onnx").stdout or "micro.onnx" not in stuck
    assert "No channels can be removed" in run("analyze", "other.onnx").stdout, "but a residual branch"
    assert any(content["frozen"] for content in found.values())


def test_long_tables_are_cut_unless_all_is_asked_for(run, monkeypatch):
    monkeypatch.setattr(sys.modules["onnxprune.cli.analyze"], "ROWS", 1)
    assert "... and 1 more (--all shows them)" in run("analyze", "model.onnx").stdout
    assert "more (--all" not in run("analyze", "model.onnx", "--all").stdout


def test_mask_shows_widths_and_the_cost(run, folder):
    done = run("mask", "model.onnx", "--keep", 0.5, "-o", "mask.json")
    assert done.exit_code == 0
    assert "-64.8%" in done.stdout and "Written: mask.json" in done.stdout
    assert json.loads((folder / "mask.json").read_text())["provenance"]["keep"] == 0.5


def test_mask_tells_the_cost_that_apply_then_finds(run, folder):
    predicted = document(run("mask", "model.onnx", "--target", "macs=0.6", "-o", "mask.json", "--json"))
    run("apply", "model.onnx", "--mask", "mask.json", "-o", "small.onnx")
    counted = document(run("analyze", "small.onnx", "--json"))["cost"]
    assert {k: predicted["after"][k] for k in counted} == counted
    assert counted["macs"] <= 0.6 * predicted["before"]["macs"]


def test_targets_are_all_met(run):
    options = ("--target", "macs=0.7", "--target", "params=0.5", "-o", "mask.json", "--json")
    found = document(run("mask", "model.onnx", *options))
    assert found["after"]["macs"] <= 0.7 * found["before"]["macs"]
    assert found["after"]["params"] <= 0.5 * found["before"]["params"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--keep", 0.5], [4, 3]),
        (["--keep", 0.5, "--score", "l2"], [4, 3]),
        (["--keep", 0.5, "--score", "bn"], [4, 3]),
        (["--keep", 0.5, "--score", "random", "--seed", 3], [4, 3]),
        (["--keep", 0.6, "--round-to", 4], [4, 4]),
        (["--keep", 0.1, "--min-keep", 2], [2, 2]),
        (["--keep", 0.5, "--exclude", "conv1*"], [8, 3]),
        (["--keep", 0.5, "--exclude", "conv1*", "--exclude", "conv2"], [8, 6]),
        (["--keep", 0.5, "--uncoupled-only", "--factor", "all"], [4, 3]),
        (["--keep", 1], [8, 6]),
    ],
)
def test_selection_options_reach_the_library(run, options, kept):
    found = document(run("mask", "model.onnx", *options, "-o", "mask.json", "--json"))
    assert [w["kept"] for w in found["widths"]] == kept


def test_the_seed_of_random_counts(run, folder):
    for seed in (1, 1, 2):
        run("mask", "model.onnx", "--keep", 0.5, "--score", "random", "--seed", seed, "-o", f"{seed}.json")
        run("mask", "model.onnx", "--keep", 0.5, "--score", "random", "--seed", seed, "-o", f"{seed}b.json")
    one, again, two = ((folder / name).read_text() for name in ("1.json", "1b.json", "2.json"))
    assert one == again != two


def test_apply_writes_what_prune_writes(run, folder, pruned):
    done = run("apply", "model.onnx", "--mask", "mask.json", "-o", "again.onnx")
    assert done.exit_code == 0 and "Exact:" in done.stdout and "Written: again.onnx" in done.stdout
    assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()


def test_apply_without_verification_says_so(run, pruned):
    done = run("apply", "model.onnx", "--mask", "mask.json", "-o", "again.onnx", "--no-verify")
    assert done.exit_code == 0 and "Not verified." in done.stdout


def test_prune_shows_before_and_after(run, folder):
    before = contents(folder)
    done = run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx")
    assert done.exit_code == 0 and done.stderr == ""
    for text in ("parameters", "multiply-accumulates", "file size", "2 of 2 groups", "Exact:", "Written: small.onnx"):
        assert text in done.stdout
    assert contents(folder).keys() == {"model.onnx", "small.onnx"}
    assert before.items() <= contents(folder).items()
    assert [array_of(onnx.load(folder / "small.onnx"), n).shape[0] for n in ("conv1.w", "conv2.w")] == [4, 3]


def test_prune_may_overwrite_an_older_output(run, pruned, folder):
    assert run("prune", "model.onnx", "--keep", 0.75, "-o", "small.onnx").exit_code == 0
    assert array_of(onnx.load(folder / "small.onnx"), "conv1.w").shape[0] == 6


@pytest.mark.parametrize(("ending", "start"), [("html", "<!DOCTYPE html>"), ("md", "# model.onnx"), ("json", "{\n")])
def test_prune_writes_a_report(run, folder, ending, start):
    done = run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx", "--report", f"report.{ending}")
    assert done.exit_code == 0
    text = (folder / f"report.{ending}").read_text()
    assert text.startswith(start) and "conv2.w" in text and describe()["numpy"] in text


def test_nothing_to_remove_is_said(run, folder):
    done = run("prune", "model.onnx", "--keep", 1, "-o", "same.onnx")
    assert done.exit_code == 0 and "note: nothing is removed" in done.stderr


def test_verify_prints_the_certificate(run, pruned):
    done = run("verify", "model.onnx", "small.onnx", "--mask", "mask.json")
    assert done.exit_code == 0 and "Certificate" in done.stdout
    assert document(run("verify", "model.onnx", "small.onnx", "--mask", "mask.json", "--json"))["exact"] is True


def test_verify_fails_on_one_wrong_channel(run, folder, pruned):
    small, whole = onnx.load(folder / "small.onnx"), onnx.load(folder / "model.onnx")
    weights = array_of(small, "fc.w").copy()
    taken = {weights[:, k].tobytes() for k in range(weights.shape[1])}
    weights[:, 0] = next(column for column in array_of(whole, "fc.w").T if column.tobytes() not in taken)
    onnx.save(with_tensor(small, "fc.w", weights), folder / "small.onnx")
    done = run("verify", "model.onnx", "small.onnx", "--mask", "mask.json")
    assert done.exit_code == 1 and "tensor 'fc.w' differs" in done.stdout
    done = run("verify", "model.onnx", "small.onnx", "--mask", "mask.json", "--json")
    assert done.exit_code == 1 and document(done)["exact"] is False


def test_verify_fails_on_another_model_of_the_same_shapes(run, folder, pruned):
    onnx.save(network(seed=1), folder / "model.onnx")
    assert run("verify", "model.onnx", "small.onnx", "--mask", "mask.json").exit_code == 1


def test_a_failed_verification_writes_nothing(run, folder, monkeypatch):
    monkeypatch.setattr(sys.modules["onnxprune.verify"], "TOLERANCE", {1: -1.0})
    before = contents(folder)
    done = run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx", "--report", "report.html")
    assert done.exit_code == 1 and done.stderr.startswith("error: ")
    assert contents(folder) == before
    assert document(run("prune", "model.onnx", "--keep", 0.5, "-o", "s.onnx", "--json")).keys() == {"error", "fix"}


def test_bench_prints_times_and_costs(run, pruned):
    done = run("bench", "model.onnx", "small.onnx", "--runs", 3, "--threads", 1, "--size", "batch=1")
    assert done.exit_code == 0
    for text in ("small.onnx", "ratio", "95% interval", "14.72 k", "3 rounds, threads: 1"):
        assert text in done.stdout


def test_quiet_prints_nothing(run):
    done = run("prune", "model.onnx", "--keep", 1, "-o", "small.onnx", "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_the_size_of_a_dimension_counts(run):
    one, four = (document(run("analyze", "model.onnx", "--size", f"batch={n}", "--json")) for n in (1, 4))
    assert four["cost"]["macs"] == 4 * one["cost"]["macs"] and four["sizes"] == {"batch": 4}
    assert document(run("analyze", "model.onnx", "--size", "*=4", "--json"))["cost"] == four["cost"]


def test_infinity_is_a_fair_constant(run, folder):
    model = network()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(np.inf, np.float32), "most"))
    model.graph.node[2].CopyFrom(onnx.helper.make_node("Clip", ["b", "", "most"], ["c"], "relu1"))
    onnx.save(model, folder / "model.onnx")
    assert run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx").exit_code == 0


def test_a_report_goes_beside_external_data(run, folder):
    onnx.save(network(width=64), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    whole = (folder / "model.onnx").stat().st_size + (folder / "w.bin").stat().st_size
    found = document(run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx", "--json"))
    (data,) = folder.glob("small*.data")
    assert found["before"]["bytes"] == whole
    assert found["after"]["bytes"] == (folder / "small.onnx").stat().st_size + data.stat().st_size


def test_analyze_lists_residual_branches(run, residual):
    shown = run("analyze", "residual.onnx").stdout
    assert re.search(r"Residual branches\s+.*\n.*w1\s+\S+%\s+\S+%\s+r\s", shown, re.DOTALL)
    [branch] = json.loads(run("analyze", "residual.onnx", "--json").stdout)["branches"]
    assert branch["name"] == "w1" and branch["node"] == "r" and branch["removable"]["params"] == 8 * 8 * 9 + 8


def test_apply_drops_branches_and_says_so(run, residual):
    done = run("apply", "residual.onnx", "--mask", "drop.json", "-o", "small.onnx")
    assert done.exit_code == 0 and "Dropped residual branches: w1\n" in done.stdout
    assert "the removed channels' consumers and the dropped branches zeroed" in done.stdout
    assert "nothing is removed" not in done.stderr
    assert [n.op_type for n in onnxprune.load(residual / "small.onnx").proto.graph.node] == ["Conv", "Sigmoid", "Conv"]
    assert run("verify", "residual.onnx", "small.onnx", "--mask", "drop.json").exit_code == 0
    assert run("verify", "residual.onnx", "residual.onnx", "--mask", "drop.json").exit_code == 1


def test_a_branch_that_is_not_there(run, residual):
    mask = json.loads((residual / "drop.json").read_text()) | {"branches": ["w9"]}
    (residual / "drop.json").write_text(json.dumps(mask))
    done = run("apply", "residual.onnx", "--mask", "drop.json", "-o", "small.onnx")
    assert (
        done.exit_code == 2 and "the mask drops branch 'w9'" in done.stderr and "its branches are 'w1'" in done.stderr
    )
    assert not (residual / "small.onnx").exists()
