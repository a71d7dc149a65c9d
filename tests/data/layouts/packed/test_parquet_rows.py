"""Parquet files as the Hugging Face hub has them."""

from __future__ import annotations

import json

import pytest

from pmtrain.data.images.read import BadImage, read_image
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from tests.data.conftest import picture
from tests.reading import listed, refusal

cv2 = pytest.importorskip("cv2")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def shard(path, labels, names=None, **columns):
    images = [{"bytes": cv2.imencode(".png", picture(i))[1].tobytes(), "path": f"{i}.png"} for i in range(len(labels))]
    table = pa.table({"image": pa.array(images, STRUCT), "label": labels, **columns})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def test_shards_are_splits_by_name_and_labels_have_the_names_of_the_metadata(tmp_path):
    names = ["normal", "pneumonia"]
    shard(tmp_path / "data/train-00000-of-00002.parquet", [0, 1, 1], names)
    shard(tmp_path / "data/train-00001-of-00002.parquet", [0, 0], names)
    shard(tmp_path / "data/validation-00000-of-00001.parquet", [1], names)
    data = read_dataset(tmp_path)
    assert data.layout == "parquet" and data.classes == ("normal", "pneumonia")
    assert [(s.split, s.label) for s in data.samples] == [("train", n) for n in (0, 1, 1, 0, 0)] + [("val", 1)]
    assert listed(data)["data/train-00000-of-00002.parquet!/2"] == ("train", 1)
    assert (read_image(data.samples[2].path) == picture(2)).all()
    one = read_dataset(tmp_path / "data/train-00000-of-00002.parquet")
    assert {s.split for s in one.samples} == {"train"}


def test_folders_are_splits_and_other_columns_are_kept(tmp_path):
    for split in ("train", "test"):
        shard(tmp_path / f"default/{split}/0000.parquet", ["a", "b"], patient_id=[7, 8], camera=["x", None])
    data = read_dataset(tmp_path, positive="b")
    assert [(s.split, s.label, s.patient) for s in data.split("test")] == [("test", 0, "7"), ("test", 1, "8")]
    assert data.samples[0].columns == (("camera", "x"),) and data.samples[1].columns == (("camera", ""),)


def test_columns_are_chosen_by_option(tmp_path):
    path = shard(tmp_path / "a.parquet", [0, 1], grade=[4, 0], split=["train", "valid"])
    assert listed(read_dataset(path)) == {"a.parquet!/0": ("train", 0), "a.parquet!/1": ("val", 1)}
    by_grade = read_dataset(path, columns=TableOptions(label_column="grade"))
    assert [s.label for s in by_grade.samples] == [1, 0]
    assert "'stage'" in refusal(path, columns=TableOptions(label_column="stage"))
    assert "--sheet" in refusal(path, columns=TableOptions(sheet="1"))


def test_what_does_not_fit_is_named_by_row(tmp_path):
    path = shard(tmp_path / "a.parquet", [0, None, 1])
    assert "a.parquet, row 1: the label is empty" in refusal(path)
    kept = read_dataset(path, exclude="", columns=TableOptions(blank_labels=True))
    assert len(kept.samples) == 2
    path = shard(tmp_path / "b.parquet", [0, 1], split=["train", "?"])
    assert "b.parquet, row 1: unknown split '?'" in refusal(path)
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"x", "path": ""}], STRUCT)}), tmp_path / "c.parquet")
    assert "c.parquet: no label column among image" in refusal(tmp_path / "c.parquet")
    images = pa.array([{"bytes": b"no image", "path": ""}, {"bytes": None, "path": "1.png"}], STRUCT)
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "d.parquet")
    for sample in read_dataset(tmp_path / "d.parquet").samples:
        with pytest.raises(BadImage, match=f"d.parquet!/{sample.path.name}: "):
            read_image(sample.path)
