"""The errors that a user can cause: what is wrong, and how to fix it."""

from __future__ import annotations


class PmtrainError(Exception):
    """A failure with a message for the user (exit code 1).

    Args:
        message: what is wrong, with the file and the value in it.
        hint: the command, flag or edit that fixes it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(PmtrainError):
    """An option or a configuration value that can't be used (exit code 2)."""

    exit_code = 2


def missing_extra(what: str, package: str, extra: str) -> PmtrainError:
    """The error where `what` needs a package that comes with an extra of pmtrain."""
    return PmtrainError(f"{what} needs {package}, which isn't installed", f'pip install "pmtrain[{extra}]"')
