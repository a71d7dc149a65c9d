"""The errors that a person can cause: what is wrong, and the way out."""

from __future__ import annotations


class PmtrainError(Exception):
    """A failure with a message for the person at the keyboard (exit code 1).

    Args:
        message: what is wrong, with the file and the value in it.
        hint: the command, flag or edit that mends it.
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
