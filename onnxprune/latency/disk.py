"""What a model takes on the disk, and which files it is."""

import hashlib
from pathlib import Path

from onnxprune.external import data_file, is_external, location
from onnxprune.wire import skeleton


def model_files(path: Path) -> list[Path]:
    """A model's file and, after it, the data files that its tensors name."""
    headers = skeleton(path.read_bytes()).headers
    names = dict.fromkeys(location(h.tensor) for h in headers if is_external(h.tensor))
    return [path, *dict.fromkeys(data_file(name, path.parent) for name in names)]


def disk_bytes(path: Path) -> int:
    """Bytes of a model's file and of its data files."""
    return sum(file.stat().st_size for file in model_files(path))


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of a model's file and of its data files, by their names, as `sha256sum` tells them."""
    found = {}
    for each in model_files(path):
        with each.open("rb") as file:
            found[each.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
