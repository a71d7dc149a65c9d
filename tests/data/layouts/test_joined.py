"""Several data sets, each with its own layout, as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from pmtrain.system.errors import UsageError
from tests.conftest import ROOT
from tests.reading import listed, refusal, workbook, write


@pytest.fixture
def sets(tmp_path, touch) -> Path:
    """A graded table with patients, class folders with splits, the challenge's training folder."""
    touch(tmp_path, *(f"clinic/img/{n}.jpg" for n in range(5)))
    lines = [f"{n}.jpg,{n},p{n // 2}" for n in range(5)]
    write(tmp_path / "clinic/labels.csv", "\n".join(["file;grade;patient", *lines]).replace(",", ";"))
    touch(tmp_path, "folders/train/normal/1.jpg", "folders/train/glaucoma/2.jpg", "folders/val/normal/3.jpg")
    touch(tmp_path, "palm/PALM-Training400/P0001.jpg", "palm/PALM-Training400/N0001.jpg")
    return tmp_path


CLINIC = """
clinic:
  data: clinic/labels.csv
  root: clinic/img
  label_column: grade
  positive: 2,3,4
  split: train
"""
FOLDERS = """
folders:
  data: folders
"""
PALM = """
palm:
  data: palm
  data_format: palm
"""


def test_sets_of_three_layouts(sets):
    dataset = read_dataset(
        write(
            sets / "lists/all.yaml",
            (CLINIC + FOLDERS + PALM).replace("data: ", "data: ../").replace("root: ", "root: ../"),
        )
    )
    assert dataset.layout == "joined" and dataset.classes == ("negative", "positive")
    assert listed(dataset) == {
        **{f"../clinic/img/{n}.jpg": ("train", int(n >= 2)) for n in range(5)},
        "../folders/train/normal/1.jpg": ("train", 0),
        "../folders/train/glaucoma/2.jpg": ("train", 1),
        "../folders/val/normal/3.jpg": ("val", 0),
        "../palm/PALM-Training400/N0001.jpg": ("train", 0),
        "../palm/PALM-Training400/P0001.jpg": ("train", 1),
    }
    assert [sample.patient for sample in dataset.samples[:5]] == [f"clinic/p{n // 2}" for n in range(5)]
    assert {dict(sample.columns)["set"] for sample in dataset.samples} == {"clinic", "folders", "palm"}
    assert "clinic: csv layout, 5 images, 2/3/4 is positive, 0/1 negative" in dataset.describe()


def test_classes_that_every_set_calls_alike_keep_their_names(sets, touch):
    touch(sets, "more/normal/1.jpg", "more/glaucoma/2.jpg", "more/healthy/3.jpg")
    file = write(
        sets / "all.yml",
        FOLDERS.replace("folders\n", "folders/train\n") + "more:\n  data: more\n  positive: glaucoma,\n",
    )
    assert read_dataset(file).classes == ("negative", "glaucoma")
    assert read_dataset(file, positive="negative").classes == ("glaucoma", "negative")


def test_a_set_may_hold_one_class(sets, touch):
    touch(sets, "screened/retina/1.jpg", "screened/retina/2.jpg", "ill/glaucoma/1.jpg")
    more = (
        "screened:\n  data: screened\n  data_format: folder\n  positive: ''\nill:\n  data: ill\n  data_format: folder\n"
    )
    file = write(sets / "all.yaml", more + "  positive: glaucoma\n")
    dataset = read_dataset(file)
    assert dataset.classes == ("retina", "glaucoma")
    assert [sample.label for sample in dataset.samples] == [0, 0, 1]
    assert "positive: 'glaucoma' or positive: \"\"" in refusal(write(file, more))


def test_patients_may_be_the_same_in_two_sets(sets):
    other = CLINIC.replace("clinic:", "again:").replace("labels.csv", "again.csv")
    write(sets / "clinic/again.csv", "file,grade,patient\n../../folders/val/normal/3.jpg,1,p0\n")
    told = other.replace("positive: 2,3,4", 'positive: ""') + "  same_patients: true\n"
    dataset = read_dataset(write(sets / "all.yaml", CLINIC + "  same_patients: true\n" + told))
    assert [sample.patient for sample in dataset.samples] == ["p0", "p0", "p1", "p1", "p2", "p0"]


def test_the_fingerprint_covers_every_set(sets):
    file = write(sets / "all.yaml", CLINIC + PALM)
    before = read_dataset(file).fingerprint()
    (sets / "palm/PALM-Training400/P0001.jpg").write_bytes(b"more")
    changed = read_dataset(file).fingerprint()
    write(file, (CLINIC + PALM).replace("2,3,4", "3,4"))
    assert len({before, changed, read_dataset(file).fingerprint()}) == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["lists no data set"]),
        ("clinic: 5\n", ["clinic: 5", "data: FOLDER"]),
        ("- clinic\n", ["all.yaml"]),
        ("clinic:\n  path: x\n", ["clinic: path:", "'path'"]),
        ("clinic:\n  positive: a\n", ["clinic: no data"]),
        ("clinic:\n  data: gone\n", ["all.yaml: clinic:", "gone: no such file"]),
        ("clinic:\n  data: all.yaml\n", ["itself a list of data sets"]),
        (
            CLINIC.replace("2,3,4", "7,8"),
            ["all.yaml: clinic: positive: '7'", "no such label", "0, 1, 2, 3, 4"],
        ),
        (CLINIC.replace("label_column: grade", "label_column: grad"), ["clinic: label_column: 'grad'", "'grade'?"]),
        (CLINIC.replace("split: train", "split: trian"), ["clinic: split: 'trian'", "train, val, test"]),
        (CLINIC.replace("  split: train", "") + FOLDERS, ["clinic has no splits", "split: train"]),
        (FOLDERS + FOLDERS.replace("folders:", "again:"), ["folders and again both contain", "2.jpg"]),
        (FOLDERS + FOLDERS, ["folders", "duplicate key"]),
        (FOLDERS + "  label_column: x\n", ["folders: label_column", "folder layout"]),
    ],
)
def test_lists_that_do_not_fit_are_refused(sets, text, named):
    message = refusal(write(sets / "all.yaml", text))
    assert all(word in message for word in named), message


def test_options_that_belong_into_the_list_are_refused_beside_it(sets):
    file = write(sets / "all.yaml", CLINIC)
    with pytest.raises(UsageError, match="--val-data"):
        read_dataset(file, val_data=sets / "folders")
    with pytest.raises(UsageError, match="--label-column"):
        read_dataset(file, columns=TableOptions(label_column="grade"))
    assert "is a file, not a folder" in refusal(sets, data_format="joined")


def test_the_list_in_the_docs_is_one(tmp_path, touch):
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    touch(tmp_path, *(f"clinic/photographs/{n}.jpg" for n in range(5)))
    workbook(tmp_path / "clinic/labels.xlsx", [("image", "grade"), *((n, n) for n in range(5))])
    touch(tmp_path, "ichallenge-pm/Training400/P0001.jpg", "ichallenge-pm/Training400/H0001.jpg")
    dataset = read_dataset(write(tmp_path / "sets.yaml", text))
    assert [(sample.label, sample.split) for sample in dataset.samples] == [
        *((int(n >= 2), "train") for n in range(5)),
        (0, "train"),
        (1, "train"),
    ]


def test_each_set_has_its_own_negatives_and_patients(tmp_path, touch):
    touch(tmp_path, *(f"a/{n}_{side}.jpg" for n in range(4) for side in ("left", "right")))
    lines = [f"{n}_{side}.jpg,{n - 1}" for n in range(4) for side in ("left", "right")]
    write(tmp_path / "a/labels.csv", "\n".join(["file,grade", *lines]) + "\n")
    text = "a:\n  data: a/labels.csv\n  positive: 2\n  negative: 0,1\n  patient_pattern: left-right\n"
    dataset = read_dataset(write(tmp_path / "sets.yaml", text))
    assert [sample.label for sample in dataset.samples] == [0, 0, 0, 0, 1, 1]
    assert [sample.patient for sample in dataset.samples] == ["a/1", "a/1", "a/2", "a/2", "a/3", "a/3"]
    assert "a: left out: 2 labelled -1" in dataset.describe()
