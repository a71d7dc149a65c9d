"""A column looked up by image: which column names the files, and what is ambiguous."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.tables.lookup import column_by_image
from pmtrain.system.errors import PmtrainError, UsageError

IMAGES = [Path("/scans/left/1.png"), Path("/scans/right/1.png"), Path("/scans/right/2.png")]


def look(tmp_path, text: str, column: str = "patient") -> list[str]:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return column_by_image(tmp_path / "t.csv", column, IMAGES)


def test_images_are_named_by_path_name_or_stem(tmp_path):
    paths = "no,file,Patient ID\n1,left/1.png,A\n2,right\\1.png,B\n3,./right/2.png,C\n"
    assert look(tmp_path, paths) == ["A", "B", "C"]
    assert look(tmp_path, "Subject,image\nA,left/1\nB,right/1\nC,2\n") == ["A", "B", "C"]
    # Two images of one name are of one line where they are of one patient.
    assert look(tmp_path, "patient,name\nA,1.png\nC,2.png\n") == ["A", "A", "C"]
    assert look(tmp_path, "patient,name\nA,1.png\n") == ["A", "A", ""]
    assert look(tmp_path, "slide,name\nx,2.png\n", "slide") == ["", "", "x"]


def test_what_is_ambiguous_or_missing_is_refused(tmp_path):
    with pytest.raises(PmtrainError, match="1.png has several values in the column patient: A, B"):
        look(tmp_path, "patient,name\nA,1.png\nB,1.png\n")
    with pytest.raises(PmtrainError, match="no column names any of these images"):
        look(tmp_path, "patient,name\nA,7.png\n")
    with pytest.raises(UsageError, match="--unit eye: .* has no such column"):
        look(tmp_path, "patient,name\nA,1.png\n", "eye")
