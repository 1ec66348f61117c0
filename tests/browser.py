"""A headless Chromium, led over a pipe by the protocol of its developer tools."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # root, as in containers, has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
)
PIPES = 'in=$1 out=$2; shift 2; exec "$@" 3<&$in 4>&$out'
"""The browser reads from its descriptor 3 and writes to 4."""


def find() -> str | None:
    """The path of an installed browser."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab of a running browser.

    Attributes:
        events: all that it has told so far, by method.
    """

    def __init__(self, commands: BinaryIO, answers: BinaryIO):
        self._commands, self._answers, self._last, self._session = commands, answers, 0, ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """The answer to a command; what comes before it is kept as events."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": given}
        message |= {"sessionId": self._session} if self._session else {}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            told = self._read()
            if told.get("id") == self._last:
                assert "error" not in told, (method, told["error"])
                return told["result"]

    def open(self, path: Path, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Load a page in a window of this width, and wait until all of it is there."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            self._read()

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """Events of these methods since the page was opened."""
        return [given for name, given in self.events if name in methods]

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _read(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        told = json.loads(message)
        if "method" in told:
            self.events.append((told["method"], told["params"]))
        return told


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended and forgotten afterwards."""
    inward, commands = os.pipe()
    answers, outward = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            "bash",
            "-c",
            PIPES,
            "bash",
            str(inward),
            str(outward),
            program,
            *OPTIONS,
            f"--user-data-dir={profile}",
        ]
        process = subprocess.Popen(
            words, pass_fds=(inward, outward), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        os.close(inward)
        os.close(outward)
        with os.fdopen(commands, "wb") as writing, os.fdopen(answers, "rb") as reading:
            try:
                yield Browser(writing, reading)
            finally:
                process.terminate()
                process.wait(20)
