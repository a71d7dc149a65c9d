"""Images with a label file beside each."""

from __future__ import annotations

import io
import tarfile

from pmtrain.data.layouts.readers import read_dataset
from tests.reading import listed, refusal, write


def shard(path, labels, suffix="cls"):
    with tarfile.open(path, "w") as file:
        for number, label in enumerate(labels):
            for end, content in (("jpg", b"1"), (suffix, label.encode())):
                info = tarfile.TarInfo(f"{number:04}.{end}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))


def test_shards_of_webdataset(tmp_path):
    shard(tmp_path / "set-train-000000.tar", ["0", "1\n"])
    shard(tmp_path / "set-train-000001.tar", ['{"label": 1}', '{"label": 0, "age": 50}'], "json")
    shard(tmp_path / "set-val-000000.tar", ["1", "0"])
    data = read_dataset(tmp_path)
    assert data.layout == "webdataset" and data.classes == ("0", "1")
    assert [(s.split, s.label) for s in data.samples] == [
        ("train", 0), ("train", 1), ("train", 1), ("train", 0), ("val", 1), ("val", 0)
    ]  # fmt: skip
    one = read_dataset(tmp_path / "set-val-000000.tar")
    assert listed(one) == {"0000.jpg": ("val", 1), "0001.jpg": ("val", 0)}
    shard(tmp_path / "bad.tar", ['{"boxes": []}', "0"], "json")
    assert "0000.json: has no label" in refusal(tmp_path / "bad.tar")


def test_text_files_beside_images(tmp_path, touch):
    touch(tmp_path, "a.png", "b.v2.png")
    write(tmp_path / "a.txt", "normal\n")
    assert "no known layout" in refusal(tmp_path)
    write(tmp_path / "b.v2.txt", "myopia")
    assert listed(read_dataset(tmp_path)) == {"a.png": (None, 0), "b.v2.png": (None, 1)}
    touch(tmp_path, "c.png")
    assert "images without a label file: c.png" in refusal(tmp_path, data_format="webdataset")
