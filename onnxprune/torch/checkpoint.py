"""The checkpoint: all that a training needs to go on as if it had never stopped, in one file, written crash-safely."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, distributed

from onnxprune.errors import OnnxPruneError, TrainingError, UsageError
from onnxprune.external import write_all
from onnxprune.mask import Mask, parse_mask
from onnxprune.saving import writing
from onnxprune.torch.gates import Gated
from onnxprune.torch.hooks import Hook
from onnxprune.torch.run import Run

FORMAT, VERSION = "onnxprune-checkpoint", 1
_ANOTHER = "resume with what it was started with, or start anew in another folder"
_DAMAGED = "remove it, and start anew or from another checkpoint"
_PLAIN = (bool, int, float, str, bytes, type(None))


def save(path: Path, run: Run, hooks: Sequence[Hook]) -> None:
    """Write the state of a training; every process has to call it, the first one writes.

    Raises:
        OutputError: it cannot be written.
        UsageError: a hook's state could not be read back.
    """
    states: list[Any] = [_random_state(run.device)] * run.processes
    if run.processes > 1:
        distributed.all_gather_object(states, states[0])
    if run.rank == 0:
        write(path, _packed(run, hooks) | {"random": states})


def restore(path: Path, run: Run, hooks: Sequence[Hook]) -> None:
    """Bring a new run, of a fresh network, to the state that was saved.

    Raises:
        UsageError: the checkpoint is of another network, recipe, number of processes, version or other hooks.
        TrainingError: it is damaged, or holds what could run code.
    """
    content = read(path)
    with _telling_damage(path):
        for what, got, expected in _differences(content, run, hooks):
            raise UsageError(f"{path}: the checkpoint's {what} is {got}, expected {expected}", _ANOTHER)
        masks = [parse_mask(json.loads(text), str(path)) for text in content["masks"]]
    for mask in masks:
        run.shrink(mask)
    for hook, (_, state) in zip(hooks, content["hooks"], strict=True):
        hook.load_state_dict(state)
    run.refresh()
    with _telling_damage(path):
        _load(content, run)
        _set_random_state(content["random"][run.rank], run.device)


def save_best(path: Path, run: Run) -> None:
    """Write the weights that are evaluated, with the masks and the figure that belong to them; of a gated network also
    those of the module alone, gates multiplied in.

    Raises:
        OutputError: it cannot be written.
    """
    head = {"format": FORMAT, "version": VERSION, "epoch": run.epoch, "validation": run.best}
    network = run.evaluated
    plain = copy.deepcopy(network).fold().state_dict() if isinstance(network, Gated) else {}
    write(path, head | {"masks": _texts(run.masks), "model": network.state_dict(), "plain": plain})


def restore_best(path: Path, run: Run) -> float:
    """Give the network, and its moving average, the weights with the best validation figure, which is returned.

    Raises:
        UsageError: the file is missing, or its weights are of a network of another size.
        TrainingError: it is damaged.
    """
    content = read(path)
    with _telling_damage(path):
        if content["masks"] != _texts(run.masks):
            raise UsageError(f"{path}: the weights are of the network before it was made smaller", "train it further")
        for network in (run.network, run.evaluated):
            network.load_state_dict(content["model"])
        return float(content["validation"])


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file so that `path` holds the old content or the new one, whole, at every moment.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path) as file:
        stream = _Stream(file)
        try:
            torch.save(content, stream)  # type: ignore[arg-type]  # all that it calls is there
        except RuntimeError as error:
            raise stream.error or error from error


class _Stream:
    """What torch writes to; torch would hide why that failed."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of it."""
        try:
            write_all(self._file, memoryview(data))
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def read(path: Path, own: bool = True) -> dict[str, Any]:
    """The content of a file that `write` wrote; if it need not be our own, also of any file with tensors in a dict.

    Raises:
        UsageError: it is missing, or of another version.
        TrainingError: it is damaged, no checkpoint, or holds what could run code.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file", "check the path")
    with _telling_damage(path):
        if own or zipfile.is_zipfile(path):
            _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or (own and content.get("format") != FORMAT):
            raise ValueError(f"expected the format {FORMAT!r}" if own else "expected a dict")
    if content.get("format") == FORMAT and content.get("version") != VERSION:
        raise UsageError(f"{path}: checkpoint version {content.get('version')}, expected {VERSION}", _ANOTHER)
    return content


def _check_sums(path: Path) -> None:
    """Torch does not look at the checksums that it writes."""
    with zipfile.ZipFile(path) as archive:
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"wrong checksum of {bad}")


@contextmanager
def _telling_damage(path: Path) -> Iterator[None]:
    """Tells every error as the file's; torch and zipfile have a dozen types for a damaged one."""
    try:
        yield
    except OnnxPruneError:
        raise
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}", "check its permissions") from error
    except Exception as error:
        if "weights_only" in str(error):
            why = "it holds more than tensors and plain data, which could run code"
            raise TrainingError(f"{path}: refused: {why}", _DAMAGED) from error
        first = (str(error).strip().splitlines() or [""])[0]
        raise TrainingError(f"{path}: damaged, or no checkpoint: {type(error).__name__}: {first}", _DAMAGED) from error


def _packed(run: Run, hooks: Sequence[Hook]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": run.shapes,
        "recipe": run.recipe.to_json(),
        "processes": run.processes,
        "hooks": [[type(hook).__name__, _plain(hook.state_dict(), type(hook).__name__)] for hook in hooks],
        "settings": [json.dumps(hook.settings()) for hook in hooks],
        "masks": _texts(run.masks),
        "position": {name: getattr(run, name) for name in _POSITION},
        "model": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
    }


_POSITION = ("epoch", "batches", "loss", "best", "seconds")


def _load(content: dict[str, Any], run: Run) -> None:
    run.network.load_state_dict(content["model"])
    if run.average is not None:
        run.average.load_state_dict(content["average"])
    groups = list(run.optimizer.param_groups)
    run.optimizer.load_state_dict(content["optimizer"])
    # torch puts new dicts in place of those that hooks may hold.
    for group, loaded in zip(groups, run.optimizer.param_groups, strict=True):
        group.update(loaded)
    run.optimizer.param_groups[:] = groups
    run.scaler.load_state_dict(content["scaler"])
    for name in _POSITION:
        setattr(run, name, content["position"][name])


def _differences(content: dict[str, Any], run: Run, hooks: Sequence[Hook]) -> Iterator[Sequence[Any]]:
    """What the checkpoint is of, and what it would have to be of, where they differ."""
    names = [type(hook).__name__ for hook in hooks]
    for k, (old, new) in enumerate(zip_longest(content["network"], run.shapes)):
        if old != new:
            yield f"network tensor {k}", *(f"{s[0]} {s[1]}" if s else "not there" for s in (old, new))
    for field, expected in run.recipe.to_json().items():
        if (got := content["recipe"].get(field)) != expected:
            yield f"recipe's {field}", repr(got), repr(expected)
    if content["processes"] != run.processes:
        yield "number of processes", content["processes"], run.processes
    if (got := [name for name, _ in content["hooks"]]) != names:
        yield "list of hooks", got, names
    for hook, text in zip(hooks, content.get("settings", ()), strict=False):
        own, old = json.loads(json.dumps(hook.settings())), json.loads(text)
        for name in own | old:
            if own.get(name) != old.get(name):
                yield f"{name} ({type(hook).__name__})", repr(old.get(name)), repr(own.get(name))


def _texts(masks: Sequence[Mask]) -> list[str]:
    return [json.dumps(mask.to_json()) for mask in masks]


def _plain(value: Any, where: str) -> Any:
    """The value, if it can be read back without running code; a NumPy number, for one, cannot."""
    if isinstance(value, dict):
        for key, item in value.items():
            _plain(item, f"{where}[{_plain(key, where)!r}]")
    elif isinstance(value, list | tuple):
        for k, item in enumerate(value):
            _plain(item, f"{where}[{k}]")
    elif not isinstance(value, Tensor) and type(value) not in _PLAIN:
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise UsageError(f"hook state {where} is a {kind}", "keep tensors, numbers, strings, lists and dicts there")
    return value


def _random_state(device: torch.device) -> dict[str, Any]:
    """The state of all global random numbers."""
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [numpy[0], numpy[1].tolist(), *numpy[2:]],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
