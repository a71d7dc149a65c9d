"""What is said of a file that may come from anywhere: why it is refused, and its text, fit for a terminal."""

from __future__ import annotations


class Refused(Exception):
    """Why some bytes can't be loaded, as the end of a sentence that begins with the file's name, and a hint."""

    def __init__(self, message: str, hint: str = "copy or download it again, or give another checkpoint") -> None:
        super().__init__(message)
        self.hint = hint


def shown(text: str, limit: int = 80) -> str:
    """Text from a file, fit for a terminal: no control characters, and no more than `limit` of the others."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "..."


def first_few(names: list[str], count: int = 3) -> str:
    """The first few names from a file, and how many more there are."""
    listed = ", ".join(shown(name) for name in names[:count])
    return listed if len(names) <= count else f"{listed} and {len(names) - count} more"
