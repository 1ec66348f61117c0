"""Text files, written whole or not at all, and JSON that people can read and diff."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from onnxprune.errors import OutputError
from onnxprune.saving import _as_output_error, _check_target, _temporary, write_whole

MASK, PRUNED = "mask.json", "pruned.onnx"
"""What every folder has that gets the outcome of a pruning."""


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Refuse outputs that cannot be written, before any work is done; nothing is left behind.

    Args:
        outputs: files to write; None for those that nobody asked for.
        inputs: files that must not be written: the model, its data files, the mask.

    Raises:
        OutputError: the folder is missing or not writable, a path is a folder, an input or given twice.
    """
    wanted, inputs = [path for path in outputs if path], list(inputs)
    for path in wanted:
        with _as_output_error(path):
            _check_target(path, inputs)
            with _temporary(path):
                pass
    for a, b in combinations(wanted, 2):
        if a.resolve() == b.resolve():
            raise OutputError(f"{a}: two outputs would go to this one file", "give each its own path")


def write_text(path: Path, text: str) -> None:
    """Write a file so that `path` holds the old text or the new one, whole, at every moment.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, text.encode())


def document(content: Mapping[str, Any]) -> str:
    """A JSON document with a line for every field, and in lists one for every entry, so that diffs are small.

    Numbers that are not finite, which JSON cannot say, become null.
    """
    fields = ",\n".join(f" {json.dumps(key)}: {_lines(value)}" for key, value in _finite(dict(content)).items())
    return f"{{\n{fields}\n}}\n"


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not any(isinstance(item, dict | list) for item in value):
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in value) + "\n ]"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
