"""The one error tree: every message says what, where, expected, got, and how to fix it."""


class OnnxPruneError(Exception):
    """Base of all errors meant for users.

    Attributes:
        what: one line that says what is wrong and where.
        fix: one line that says what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, fix: str = ""):
        super().__init__(f"{what}\n  fix: {fix}" if fix else what)
        self.what = what
        self.fix = fix


class ModelError(OnnxPruneError):
    """The model file cannot be read, is not valid ONNX, or holds what cannot be pruned."""


class MaskError(OnnxPruneError):
    """The mask does not fit the model, empties a group or breaks a constraint."""


class UsageError(OnnxPruneError):
    """An option or an argument makes no sense."""


class OutputError(OnnxPruneError):
    """The output path cannot be written."""


class TrainingError(OnnxPruneError):
    """A training diverged, or its checkpoint is damaged."""


class VerificationError(OnnxPruneError):
    """The pruned model is not the masked original."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error of any type says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
