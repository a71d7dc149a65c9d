"""The rows that every layout is read into, and the options for tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from pmtrain.config import ListingOptions

# Usual names of splits, in lower case and in several languages.
_SPLIT_WORDS = {
    "train": "train training entrenamiento entraînement apprentissage treino treinamento addestramento обучение"
    " 训练 訓練 学習 훈련 학습",
    "val": "val valid validation validate validating dev development eval evaluation validierung validación validação"
    " validazione валидация 验证 驗證 検証 검증",
    "test": "test testing holdout prueba teste тест 测试 測試 テスト 테스트",
}
SPLIT_NAMES = {word: split for split, words in _SPLIT_WORDS.items() for word in words.split()}
# What is written beside them: train_images, trainset, "Training data", 训练集.
_BESIDE = r"(?:s?(?:sets?|data|daten|dataset|images?|imgs?|photos?|split|fold|part|集|集合|数据|データ|셋|세트)?)"
_SPLIT = re.compile(rf"(?:{_BESIDE}[\W_]+)?({'|'.join(SPLIT_NAMES)})[\W_]*{_BESIDE}(?:[\W_]+{_BESIDE})?", re.IGNORECASE)


def split_of(text: str) -> str | None:
    """The split that a folder's name or a cell says: `Train`, `training_set`, `Val images`; None if it is no split."""
    text = text.lower()
    if text in SPLIT_NAMES:
        return SPLIT_NAMES[text]
    match = _SPLIT.fullmatch(text)
    return SPLIT_NAMES[match[1]] if match else None


def split_in(name: str) -> str | None:
    """The split that one of the words of a file's name says: `train`, `RFMiD_Training_Labels`; None if none does."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return next((split for word in words if (split := split_of(word))), None)


class Row(NamedTuple):
    """One image as read from a layout, with its original label; `line` in a table, else 0."""

    path: Path
    label: str
    split: str | None = None
    patient: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    line: int = 0


@dataclass(frozen=True)
class Found:
    """What a reader found.

    `root` is the folder that image names are relative to, None for the data's own folder; `positive` the positive class
    if the layout defines it; `notes` messages to print, one per line; `folders` those of all images, None if they must
    be found from the paths.
    """

    rows: list[Row]
    root: Path | None = None
    positive: str | None = None
    notes: tuple[str, ...] = ()
    folders: frozenset[str] | None = None


@dataclass(frozen=True)
class TableOptions:
    """How to read a table.

    Attributes:
        root: the folder that its paths are relative to; None for the table's own folder.
        path_column, label_column: column names, several for a table with one row per patient; empty to find them.
        patient_column, split_column: a column name; None to find it, "" for none.
        sheet: the sheet of an Excel file; None for the first.
        skip_missing: leave out rows whose file doesn't exist.
        blank_labels: whether rows may have no label, because they will be left out.
    """

    root: Path | None = None
    path_column: Sequence[str] = ()
    label_column: Sequence[str] = ()
    patient_column: str | None = None
    split_column: str | None = None
    sheet: str | None = None
    skip_missing: bool = False
    blank_labels: bool = False

    @classmethod
    def of(cls, options: ListingOptions) -> TableOptions:
        """The options about tables."""
        own = {each.name: getattr(options, each.name) for each in fields(cls) if each.name != "blank_labels"}
        own |= {name: tuple(own[name]) for name in ("path_column", "label_column")}
        both = options.positive is not None and options.negative is not None
        return cls(**own, blank_labels=both or "" in parts_of(options.exclude))

    def given(self) -> list[str]:
        """The names of the options that were given."""
        own = [each for each in fields(self) if each.name != "blank_labels"]
        return [each.name for each in own if getattr(self, each.name) != each.default]

    def columns_of(self, role: str) -> list[str]:
        """The column names that were given for `path`, `label`, `patient` or `split`."""
        value = getattr(self, f"{role}_column")
        return [value] if isinstance(value, str) else list(value or ())


def parts_of(text: str | None) -> list[str]:
    """The parts of a comma-separated list; an empty part stands for an empty label."""
    return [] if text is None else [part.strip() for part in text.split(",")]


BY_NAME = TableOptions()  # defaults: columns are found by their names
