"""What a row of the op table is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from onnxprune.graph import Node
from onnxprune.trace import Trace


class Rule(Protocol):
    """One operator's knowledge."""

    def read(self, node: Node, trace: Trace) -> None:
        """Tie, cut or freeze the axes of the node's operands and set those of its results.

        Raises:
            Cannot: the node is a case that the rule does not cover.
        """


@dataclass(frozen=True)
class Movement:
    """A rule that moves elements: its function says which axis each result's axis is made of."""

    function: Callable[[Node, Trace], None]

    def read(self, node: Node, trace: Trace) -> None:
        """Apply the function."""
        self.function(node, trace)
