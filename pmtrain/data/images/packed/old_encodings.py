"""Text that is not UTF-8: which of the older encodings it is in, by how usual its characters then are."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import NamedTuple

SAMPLE = 1 << 16  # bytes that are looked at
MANY = (
    8  # different characters: so many Chinese ones are hardly all in the half of the table that Korean letters are in
)


_INSIDE_WORDS = re.compile(r"[^\x00-\x7f](?=[a-z])")


class _Encoding(NamedTuple):
    """An encoding: what saves tables in it, and whether a character (and its bytes) is usual in such text."""

    said: str
    is_usual: Callable[[str, bytes], bool]


def _lead(*ranges: tuple[int, int], trail: int = 0x40) -> Callable[[str, bytes], bool]:
    """Characters of two bytes, the first in one of the ranges, the second `trail` or above."""
    return lambda _, code: len(code) == 2 and code[1] >= trail and any(low <= code[0] <= high for low, high in ranges)


def _letters(letters: str) -> Callable[[str, bytes], bool]:
    expression = re.compile(f"[{letters}]", re.IGNORECASE)
    return lambda character, _: expression.match(character) is not None


# Of equally likely ones, the first. The ranges are those of the characters in daily use: level 1 of GB 2312, of Big5
# and of JIS X 0208 with its kana, and the syllables of KS X 1001.
EASTERN = {
    "gb18030": _Encoding("GB18030, as Excel saves CSV in China", _lead((0xA1, 0xA3), (0xB0, 0xD7), trail=0xA1)),
    "cp932": _Encoding("Shift JIS, as Excel saves CSV in Japan", _lead((0x81, 0x83), (0x88, 0x97))),
    "cp950": _Encoding("Big5, as Excel saves CSV in Taiwan", _lead((0xA1, 0xA1), (0xA4, 0xC6))),
    "cp949": _Encoding("CP949, as Excel saves CSV in Korea", _lead((0xB0, 0xC8), trail=0xA1)),
    "cp1251": _Encoding("Windows-1251, as Excel saves CSV in Russia", _letters("а-яё№")),
}
WESTERN = {
    "cp1252": _Encoding("Windows-1252, as Excel saves CSV in Europe", _letters("à-ïñ-öø-üßœ°µ–’“”€")),
    "cp1250": _Encoding(
        "Windows-1250, as Excel saves CSV in Central Europe", _letters("ąćęłńóśźżáčďéěíňřšťúůýžäöüßőű°µ–’“”€")
    ),
    "cp1254": _Encoding("Windows-1254, as Excel saves CSV in Turkey", _letters("çğıİöşüâ°µ–’“”€")),
}
SAID = {name: encoding.said for name, encoding in (EASTERN | WESTERN).items()}


def likely_encodings(raw: bytes, known: Callable[[str], int] = lambda text: 0) -> list[str]:
    """The encodings in which all bytes make sense, the likeliest first.

    Args:
        known: the number of words in a text that were to be expected; it decides between equally likely encodings.
    """
    raw = raw[:SAMPLE]
    candidates = WESTERN | EASTERN if may_be_western(raw) else EASTERN | (WESTERN if _has_odd_runs(raw) else {})
    scores = {}
    for name, encoding in candidates.items():
        try:
            text = codecs.getincrementaldecoder(name)().decode(raw)
        except UnicodeDecodeError:
            continue
        others = {character for character in text if character > "\x7f"}
        # Inside a word of Western letters, only such letters are usual.
        inside = set() if name in WESTERN else set(_INSIDE_WORDS.findall(text))
        usual = sum(encoding.is_usual(each, each.encode(name, "replace")) for each in others - inside)
        scores[name] = usual / len(others) if others else 1.0, known(text), name == "cp949" and len(others) >= MANY
    return sorted(scores, key=lambda name: scores[name], reverse=True)


def may_be_western(raw: bytes) -> bool:
    """Whether bytes above 127 are mostly single, like Western letters, rather than in pairs or words."""
    runs = re.findall(rb"[\x80-\xff]+", raw)
    return sum(len(run) == 1 for run in runs) >= len(runs) / 2


def _has_odd_runs(raw: bytes) -> bool:
    """Whether an odd number of bytes above 127 follow one another, as in no text of GB 2312 or Korean."""
    return any(len(run) % 2 for run in re.findall(rb"[\x80-\xff]+", raw))
