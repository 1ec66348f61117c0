"""Long work in slices of time: its end, its state in pieces small enough to travel, and how much of it is left.

For machines that are lent for minutes and keep nothing. What is to travel is packed into a tar archive, cut into
pieces; every process begins with what the last one's archive holds.
"""

import io
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from onnxprune.torch.logs import NAME, read

PIECE = 15 << 20
"""Bytes of a file at most."""
PIECES = 4
PREFIX = "state."
SPARE = 10.0
"""Seconds after which what has not stopped by itself is stopped."""


class OutOfTime(BaseException):
    """The slice is over, and the work is not. No `Exception`, so that nobody takes it for a failure of theirs."""


class Clock:
    """The end of a slice.

    Args:
        seconds: from now; None for no end.
    """

    def __init__(self, seconds: float | None):
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds, or None for no end.

        Raises:
            OutOfTime: there are none.
        """
        if self._end is None:
            return None
        if (seconds := self._end - time.monotonic()) <= 0:
            raise OutOfTime
        return seconds

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """Raises OutOfTime in the block, a little after the end: of work that does not look at the clock itself."""
        if self._end is None:
            yield
            return
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(self._end - time.monotonic(), 0) + SPARE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _ring(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def pack(folder: Path, wanted: Callable[[Path], bool], out: Path) -> list[str]:
    """Write the wanted files under `folder` to pieces in `out`, smallest first; names of those that found no room."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{PREFIX}*"):
        old.unlink()
    files = sorted((f for f in folder.rglob("*") if f.is_file() and wanted(f)), key=lambda f: f.stat().st_size)
    content, left = io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w") as archive:
        for file in files:
            # a header and the padding of the file and of the archive take 512, less than 512 and less than 12 kB
            if content.tell() + file.stat().st_size + (13 << 10) <= PIECE * PIECES:
                archive.add(file, file.relative_to(folder).as_posix())
            else:
                left.append(file.relative_to(folder).as_posix())
    view = content.getbuffer()
    for number, start in enumerate(range(0, len(view), PIECE)):
        (out / f"{PREFIX}{number}").write_bytes(view[start : start + PIECE])
    return left


def unpack(pieces: Path, folder: Path) -> None:
    """Write the files that `pack` put into pieces; those that are there already stay, being newer.

    Raises:
        SystemExit: there are no pieces.
    """
    found = sorted(pieces.glob(f"{PREFIX}*"))
    if not found:
        raise SystemExit(
            f"{pieces}: no {PREFIX}* in there; fix: give the folder that an earlier slice wrote with --out"
        )
    with tarfile.open(fileobj=io.BytesIO(b"".join(f.read_bytes() for f in found))) as archive:
        fresh = [m for m in archive if not (folder / m.name).exists()]
        archive.extractall(folder, fresh, filter="data")


def progress(logs: Mapping[Path, int]) -> str:
    """How many epochs are done of those of each folder's training, and about how long the others take.

    An epoch of a training that has not begun is taken to be as long as the last one of any was.
    """
    rows = {folder: read(folder / NAME) for folder in logs}
    done = sum(len(each) for each in rows.values())
    begun = [folder for folder in logs if rows[folder]]
    text = f"{done} of {sum(logs.values())} epochs"
    if not begun:
        return text
    lasts = {folder: _seconds_an_epoch(rows[folder]) for folder in begun}
    ahead = sum((epochs - len(rows[f])) * lasts.get(f, lasts[begun[-1]]) for f, epochs in logs.items())
    return f"{text}, {lasts[begun[-1]]:.1f} s each, about {ahead / 60:.0f} min left"


def _seconds_an_epoch(rows: list[dict[str, str]]) -> float:
    before = float(rows[-2]["seconds"]) if len(rows) > 1 else 0.0
    return float(rows[-1]["seconds"]) - before


@contextmanager
def telling(logs: Mapping[Path, int], name: str, every: float = 30.0) -> Iterator[None]:
    """Prints how far the block is, also where there is no terminal for a bar."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(every):
            print(f"{name}: {progress(logs)}", flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def seconds_of(folders: Iterable[Path]) -> float:
    """What trainings took, over all slices."""
    return sum(float(rows[-1]["seconds"]) for rows in (read(f / NAME) for f in folders) if rows)
