"""Models as files, for runtimes that read nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from onnxprune.execution import runnable
from onnxprune.graph import Model


@contextmanager
def model_file(model: Model) -> Iterator[str]:
    """The path of a model's file, its data beside it and nothing else."""
    with runnable(model) as source, TemporaryDirectory() as folder:
        if isinstance(source, bytes):
            path = Path(folder) / "model.onnx"
            path.write_bytes(source)
            source = str(path)
        yield source


def digest(source: str | bytes) -> str:
    """A hash of a model that is given as a path or as its content."""
    found = hashlib.sha256()
    for file in [source] if isinstance(source, bytes) else sorted(Path(source).parent.iterdir()):
        found.update(file if isinstance(file, bytes) else file.read_bytes())
    return found.hexdigest()[:16]
