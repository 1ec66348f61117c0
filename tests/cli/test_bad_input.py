"""Bad input: one clear line and the fix, exit status 2, nothing written, the input untouched, no traceback."""

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.conftest import array_of, contents, network, with_tensor

ON_ONE_MODEL = {
    "analyze": ("analyze", "bad.onnx", "-o", "out.json"),
    "mask": ("mask", "bad.onnx", "--keep", 0.5, "-o", "out.json"),
    "apply": ("apply", "bad.onnx", "--mask", "mask.json", "-o", "out.onnx"),
    "unverified": ("apply", "bad.onnx", "--mask", "mask.json", "-o", "out.onnx", "--no-verify"),
    "verify": ("verify", "bad.onnx", "small.onnx", "--mask", "mask.json"),
    "prune": ("prune", "bad.onnx", "--keep", 0.5, "-o", "out.onnx", "--report", "out.html"),
    "bench": ("bench", "model.onnx", "bad.onnx", "--runs", 2),
}


@pytest.fixture
def assert_refused(run, folder):
    """Run a verb that must refuse; its error and fix."""

    def check(*words, error: str, fix: str = "."):
        before = contents(folder)
        done = run(*words)
        assert done.exit_code == 2, done.output
        assert done.stdout == "" and "Traceback" not in done.stderr
        told = re.fullmatch(r"error: (.+)\nfix: (.+)\n", done.stderr)
        assert told, done.stderr
        assert re.search(error, told[1]) and re.search(fix, told[2])
        assert contents(folder) == before
        as_json = run(*words, "--json")
        assert as_json.exit_code == 2 and as_json.stderr == ""
        assert json.loads(as_json.stdout) == {"error": told[1], "fix": told[2]}
        assert contents(folder) == before

    return check


# Models ---------------------------------------------------------------------------------------------------------


def invalid() -> onnx.ModelProto:
    model = network()
    model.graph.node[3].input[0] = "nowhere"
    return model


def without_weights() -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def too_new() -> onnx.ModelProto:
    model = network()
    model.opset_import[0].version = 99
    return model


def saved(build):
    return lambda folder: onnx.save(build(), folder / "bad.onnx")


def truncated(folder: Path) -> None:
    data = network().SerializeToString()
    (folder / "bad.onnx").write_bytes(data[: len(data) // 2])


def external(location: str):
    def save(folder: Path) -> None:
        model = network()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (folder / "bad.onnx").write_bytes(model.SerializeToString())

    return save


def linked(folder: Path) -> None:
    outside = folder.parent / f"{folder.name}.bin"
    outside.write_bytes(bytes(10_000))
    os.symlink(outside, folder / "link.bin")
    external("link.bin")(folder)


BAD = {
    "missing": (lambda folder: None, r"bad\.onnx: no such file"),
    "a folder": (lambda folder: (folder / "bad.onnx").mkdir(), r"bad\.onnx: expected an ONNX file, got a folder"),
    "text": (lambda folder: (folder / "bad.onnx").write_text("hello\n" * 99), r"bad\.onnx: not an ONNX model"),
    "empty": (lambda folder: (folder / "bad.onnx").touch(), r"bad\.onnx: not an ONNX model"),
    "truncated": (truncated, r"bad\.onnx: a truncated or damaged ONNX model"),
    "invalid": (saved(invalid), r"bad\.onnx: not valid ONNX: .*nowhere"),
    "no weights": (saved(without_weights), r"bad\.onnx: the model has no weights"),
    "too new": (saved(too_new), r"bad\.onnx: opset 99 is too new"),
    "data missing": (external("gone.bin"), r"gone\.bin: external data file not found"),
    "data absolute": (external("/etc/hostname"), r"/etc/hostname"),
    "data above": (external("../secret.bin"), r"\.\./secret\.bin"),
    "data linked": (linked, r"link\.bin"),
}


@pytest.mark.parametrize("verb", ON_ONE_MODEL)
@pytest.mark.parametrize("kind", BAD)
def test_bad_models(kind, verb, assert_refused, folder, pruned):
    make, error = BAD[kind]
    make(folder)
    assert_refused(*ON_ONE_MODEL[verb], error=error)


@pytest.mark.parametrize("name", ["conv1.w", "bn.s", "fc.b"])
@pytest.mark.parametrize("verb", ["mask", "apply", "unverified", "verify", "prune"])
def test_nan_weights(verb, name, assert_refused, folder, pruned):
    array = array_of(network(), name).copy()
    array.flat[-1] = np.nan
    onnx.save(with_tensor(network(), name, array), folder / "bad.onnx")
    assert_refused(*ON_ONE_MODEL[verb], error=rf"bad\.onnx: tensor '{name}' holds NaN", fix="finite weights")


def test_a_second_bad_model(assert_refused, folder, pruned):
    truncated(folder)
    assert_refused("verify", "model.onnx", "bad.onnx", "--mask", "mask.json", error=r"bad\.onnx: a truncated")


def test_bench_of_different_inputs(assert_refused, folder):
    other = network()
    other.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 9
    onnx.save(other, folder / "other.onnx")
    assert_refused(
        "bench",
        "model.onnx",
        "other.onnx",
        "--size",
        "batch=1",
        error=r"other\.onnx: its inputs are x \['batch', 3, 9, 8\]",
    )


def test_bench_of_one_model(assert_refused):
    assert_refused("bench", "model.onnx", "--size", "batch=1", error="expected two or more models to compare, got 1")


# Masks ----------------------------------------------------------------------------------------------------------


def with_group(**changes):
    return lambda mask: mask["groups"][0].update(changes)


MASKS = {
    "another format": (lambda mask: mask.update(format="other"), "not a mask file"),
    "another version": (lambda mask: mask.update(version=2), "mask version 2, expected 1"),
    "a missing field": (lambda mask: mask.pop("groups"), "a damaged mask file"),
    "all units go": (with_group(removed=[[0, 8]]), r"group 'conv1\.w': the mask removes all 8 units"),
    "units outside": (with_group(removed=[[7, 9]]), r"group 'conv1\.w' has removed units outside \[0, 8\)"),
    "a range backwards": (with_group(removed=[[3, 1]]), r"group 'conv1\.w' has removed units outside"),
    "a group too few": (lambda mask: mask["groups"].pop(), "for another model: it has 1 groups, the model 2"),
    "another size": (with_group(size=9), r"for another model: its group 'conv1\.w' \(9 units\)"),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("verb", ["apply", "unverified", "verify"])
def test_bad_masks(kind, verb, assert_refused, folder, pruned):
    change, error = MASKS[kind]
    mask = json.loads((folder / "mask.json").read_text())
    change(mask)
    (folder / "bad.json").write_text(json.dumps(mask))
    words = [{"bad.onnx": "model.onnx", "mask.json": "bad.json"}.get(word, word) for word in ON_ONE_MODEL[verb]]
    assert_refused(*words, error=error)


def test_a_mask_for_another_model(assert_refused, folder, pruned):
    onnx.save(network(width=10), folder / "wide.onnx")
    error = r"the mask is for another model: its group 'conv1\.w' \(8 units\) does not fit .* \(10 units\)"
    assert_refused("apply", "wide.onnx", "--mask", "mask.json", "-o", "out.onnx", error=error)


def test_a_missing_mask(assert_refused):
    assert_refused(
        "apply", "model.onnx", "--mask", "no.json", "-o", "out.onnx", error=r"no\.json: cannot read the mask"
    )


def test_a_mask_that_is_not_json(assert_refused, folder):
    (folder / "bad.json").write_bytes(b"\x80\x04pickled")
    assert_refused("apply", "model.onnx", "--mask", "bad.json", "-o", "out.onnx", error=r"bad\.json: not JSON")


# Outputs --------------------------------------------------------------------------------------------------------

WRITERS = {
    "analyze": ("analyze", "model.onnx", "-o"),
    "mask": ("mask", "model.onnx", "--keep", 0.5, "-o"),
    "apply": ("apply", "model.onnx", "--mask", "mask.json", "-o"),
    "prune": ("prune", "model.onnx", "--keep", 0.5, "-o"),
    "save-mask": ("prune", "model.onnx", "--keep", 0.5, "-o", "out.onnx", "--save-mask"),
    "report": ("prune", "model.onnx", "--keep", 0.5, "-o", "out.onnx", "--report"),
}


@pytest.fixture
def no_work(monkeypatch):
    """Outputs are refused before the work: the analysis must not even begin."""
    monkeypatch.setattr("onnxprune.api.analyze", lambda *a, **k: pytest.fail("the output was not checked first"))


@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_that_are_the_input(writer, assert_refused, folder, pruned, no_work):
    os.link(folder / "model.onnx", folder / "hard.html")
    os.symlink("model.onnx", folder / "soft.html")
    for path in ("model.onnx", "./model.onnx", folder / "model.onnx", "hard.html", "soft.html"):
        assert_refused(*WRITERS[writer], path, error="the output is the input", fix="another path")


@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_that_are_the_inputs_data(writer, assert_refused, folder, pruned, no_work):
    onnx.save(network(), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert_refused(*WRITERS[writer], "w.bin", error=r"w\.bin: the output is the input")


@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_in_no_folder(writer, assert_refused, pruned, no_work):
    assert_refused(*WRITERS[writer], "no/out.html", error=r"no/out\.html: there is no folder no", fix="create it first")


@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_that_are_folders(writer, assert_refused, folder, pruned, no_work):
    (folder / "dir.html").mkdir()
    assert_refused(*WRITERS[writer], "dir.html", error=r"dir\.html: expected a file to write, got a folder")


@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_in_folders_that_cannot_be_written(writer, assert_refused, folder, pruned, no_work, monkeypatch):
    (folder / "locked").mkdir(mode=0o500)
    if os.access(folder / "locked", os.W_OK):  # the superuser may write everywhere
        monkeypatch.setattr("builtins.open", deny(folder / "locked", open))
    assert_refused(*WRITERS[writer], "locked/out.html", error=r"locked/out\.html: cannot be written: Permission denied")


def deny(folder: Path, real):
    def guarded(path, mode="r", *args, **kwargs):
        if set(mode) & set("wxa") and Path(path).resolve().parent == folder:
            raise PermissionError(13, "Permission denied")
        return real(path, mode, *args, **kwargs)

    return guarded


def test_the_mask_is_not_overwritten(assert_refused, pruned, no_work):
    assert_refused(
        "apply", "model.onnx", "--mask", "mask.json", "-o", "mask.json", error=r"the output is the input mask\.json"
    )


def test_two_outputs_in_one_file(assert_refused, no_work):
    words = ("prune", "model.onnx", "--keep", 0.5, "-o", "out.onnx", "--save-mask", "./out.onnx")
    assert_refused(*words, error="two outputs would go to this one file")


def test_reports_of_unknown_kind(assert_refused, no_work):
    words = ("prune", "model.onnx", "--keep", 0.5, "-o", "out.onnx", "--report")
    assert_refused(*words, "out.pdf", error=r"out\.pdf: no report format for '\.pdf'", fix=r"\.html, \.json, \.md")


# Options --------------------------------------------------------------------------------------------------------

KEEP = ("--keep", 0.5)
OPTIONS = [
    ((), "expected --keep or --target, got neither"),
    ((*KEEP, "--target", "macs=0.5"), "expected --keep or --target, got both"),
    (("--keep", "half"), "Invalid value for '--keep': 'half' is not a valid float"),
    (("--keep", 0), r"keep is 0\.0, expected a share in \(0, 1\]"),
    (("--keep", 1.5), r"keep is 1\.5, expected a share in \(0, 1\]"),
    (("--keep", "nan"), r"keep is nan, expected a share in \(0, 1\]"),
    (("--target", "macs"), "Invalid value for '--target': 'macs' is not of the form name=value"),
    (("--target", "macs=0.5", "--target", "macs=0.4"), "a name is given twice"),
    (("--target", "time=0.5"), r"unknown target \['time'\]"),
    (("--target", "macs=0.0001"), r"no structure meets macs=0\.0001"),
    ((*KEEP, "--score", "taste"), "Invalid value for '--score': 'taste' is not one of"),
    ((*KEEP, "--round-to", 0), "Invalid value for '--round-to'"),
    ((*KEEP, "--size", "batch=0"), "Invalid value for '--size'"),
    ((*KEEP, "--size", "time=3"), "--size time: no input has this dimension; symbolic ones: batch"),
    ((*KEEP, "--colour"), "No such option.*--colour"),
]


@pytest.mark.parametrize(("options", "error"), OPTIONS)
@pytest.mark.parametrize("verb", ["mask", "prune"])
def test_bad_options(verb, options, error, assert_refused):
    assert_refused(verb, "model.onnx", *options, "-o", "out", error=error)


def test_missing_arguments(assert_refused):
    assert_refused("prune", "model.onnx", *KEEP, error="Missing option '-o'", fix="prune --help")
    assert_refused("analyze", error="Missing argument 'MODEL'", fix="analyze --help")


def test_an_unknown_verb(assert_refused):
    assert_refused("shrink", "model.onnx", error="No such command 'shrink'")
