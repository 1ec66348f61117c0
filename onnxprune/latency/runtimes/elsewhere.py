"""Runtimes that live in rooms of the package further down, and are loaded when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from onnxprune.execution import Feeds
from onnxprune.graph import Model
from onnxprune.latency.runtimes.base import Missing, Prepared, Runtime, Setting


@dataclass(frozen=True)
class Elsewhere:
    """A runtime by where it is: this room imports none of those that use it, and needs none of their libraries.

    Attributes:
        name: of the runtime.
        module: that holds it.
        attribute: its name there.
        library: that the module needs.
        extra: that installs it.
        accepts: fields of a setting that mean something to it.
    """

    name: str
    module: str
    attribute: str
    library: str
    extra: str
    accepts: tuple[str, ...] = ("threads", "precision")

    @property
    def version(self) -> str:
        """Of what is installed; empty for none."""
        return "" if self.missing() else self._load().version

    def missing(self) -> Missing | None:
        """Why it cannot be used here."""
        try:
            return self._load().missing()
        except ImportError as error:
            return Missing(f"{self.library} cannot be used ({error})", f"pip install 'onnxprune[{self.extra}]'")

    def prepare(self, model: Model, feeds: Feeds, setting: Setting) -> Prepared:
        """Load a model and run it once.

        Raises:
            UsageError: the runtime cannot be used here, or not with this setting.
            ModelError: it cannot run the model.
        """
        if missing := self.missing():
            raise missing.error(self.name)
        return self._load().prepare(model, feeds, setting)

    def _load(self) -> Runtime:
        found: Runtime = getattr(import_module(self.module), self.attribute)
        return found
