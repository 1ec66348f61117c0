"""Sessions of onnxruntime for timing: with its optimisations, and with threads that do not wait in busy loops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnxprune.errors import ModelError
from onnxprune.execution import runnable
from onnxprune.graph import Model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(model: Model, threads: int = 0, profile: Path | None = None) -> InferenceSession:
    """A session on the CPU.

    Args:
        model: to run.
        threads: of an operator; 0 leaves it to onnxruntime.
        profile: the beginning of the path of a profile, which `end_profiling` writes and names.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that wait for more work in a busy loop would take the cores from the model whose turn is next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        with runnable(model) as source:
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises types of its own, none of them public
        raise does_not_run(model, error) from error


def does_not_run(model: Model, error: Exception) -> ModelError:
    """The error for a model that the runtime refuses."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    name = model.path or "the model"
    return ModelError(f"{name} does not run in onnxruntime: {line}", "give --size, or export again")
