"""Read damaged and hostile files: each must be read or refused with a message, and nothing else may happen.

  python scripts/fuzz.py csv --examples 10000 --seed 0
  python scripts/fuzz.py all --examples 10000 --minutes 6 --folder /tmp/fuzz     # again and again, until it ends with 0

KIND is a row of KINDS, or `all`. Each example is a valid or hostile file, changed at a few places; half of those that
have checksums or are archives are changed inside, and the checksums made right again. Files that were refused in a way
that is new are changed further. `--atheris` lets atheris choose the changes by the lines that they reach, instead.

A process of its own reads the files, with 2 GiB of address space and 10 seconds for each. These are faults: an
exception that isn't a PmtrainError, lack of memory, a file written, removed or opened for writing, a process started, a
connection, code made from text, a name looked up by a pickle, a process that dies, a time-out. Each fault's file is
kept in --folder. stdout gets a line a kind; the exit code is 0 without faults, 1 with, and 3 if --minutes were over
before the end. Run it with a Python that has pmtrain's requirements. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

MEMORY = 2 << 30  # bytes of address space
SECONDS = 10  # for one example
CHUNK = 2000  # examples of one process: each starts with the files of the kind alone, so that any can be done again
LARGE = 100_000  # bytes of an example that is seldom taken
MOST_BYTES = 4 << 20  # of an example that is changed further
UNFINISHED = 3
CHANGED = "changed"  # in the folder of a run: a file with the name of the one that was changed

Files = dict[str, bytes]  # the files of one example, by name; the first is the one that is read


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Args:
        files: makes the files to begin with, valid and hostile.
        read: reads an example; its folder holds its files.
        tokens: pieces of text that mean something to the reader.
        inside: changes a file within its checksums or its packing.
    """

    files: Callable[[], list[Files]]
    read: Callable[[Path], object]
    tokens: tuple[bytes, ...] = ()
    inside: Callable[[bytes, random.Random, Kind], bytes] | None = None


# ---------------------------------------------------------------------------------------------------------------------
# Changes
# ---------------------------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
           (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip


def changed(data: bytes, draw: random.Random, kind: Kind) -> bytes:
    """The file with one to four changes."""
    if kind.inside and draw.random() < 0.5:
        with contextlib.suppress(Exception):  # it isn't whole enough to be changed inside
            return kind.inside(data, draw, kind)
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        draw.choice(CHANGES)(content, draw, kind)
    return bytes(content)


def _place(content: bytearray, draw: random.Random) -> int:
    """Mostly in the first or last part, where headers and indices are."""
    n = len(content)
    where = draw.random()
    if where < 0.4:
        return draw.randrange(min(n, 256) or 1)
    return draw.randrange(max(0, n - 256), n or 1) if where < 0.6 else draw.randrange(n or 1)


def _bits(content: bytearray, draw: random.Random, kind: Kind) -> None:
    for _ in range(draw.randint(1, 8)):
        if content:
            content[_place(content, draw)] ^= 1 << draw.randrange(8)


def _number(content: bytearray, draw: random.Random, kind: Kind) -> None:
    size = draw.choice((1, 2, 4, 8))
    place = _place(content, draw)
    order = draw.choice(("little", "big"))
    if draw.random() < 0.5:
        value = draw.choice(NUMBERS)
    else:
        value = int.from_bytes(content[place : place + size], order) + draw.randint(-3, 3)
    content[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, order)


def _cut(content: bytearray, draw: random.Random, kind: Kind) -> None:
    del content[_place(content, draw) :]


def _delete(content: bytearray, draw: random.Random, kind: Kind) -> None:
    place = _place(content, draw)
    del content[place : place + draw.choice((1, 2, 4, 16, 256))]


def _insert(content: bytearray, draw: random.Random, kind: Kind) -> None:
    place = _place(content, draw)
    content[place:place] = draw.randbytes(draw.choice((1, 2, 4, 16, 256)))


def _repeat(content: bytearray, draw: random.Random, kind: Kind) -> None:
    start = _place(content, draw)
    piece = content[start : start + draw.choice((1, 4, 16, 64, 256))]
    content[start:start] = piece * draw.choice((1, 2, 16, 256, 4096))


def _splice(content: bytearray, draw: random.Random, kind: Kind) -> None:
    start = _place(content, draw)
    piece = content[start : start + draw.choice((4, 16, 64, 1024))]
    place = _place(content, draw)
    content[place : place + len(piece)] = piece


def _token(content: bytearray, draw: random.Random, kind: Kind) -> None:
    if not kind.tokens:
        return _bits(content, draw, kind)
    token = draw.choice(kind.tokens)
    words = [*re.finditer(rb"[\w.+-]+", bytes(content[:65536]))]
    if words and draw.random() < 0.6:
        word = draw.choice(words)
        content[word.start() : word.end()] = token
    else:
        place = _place(content, draw)
        content[place:place] = token
    return None


CHANGES = (_bits, _number, _number, _cut, _delete, _insert, _repeat, _splice, _token, _token)


def in_png(data: bytes, draw: random.Random, kind: Kind) -> bytes:
    """Change the content of PNG chunks, and correct lengths and checksums."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append([data[position + 4 : position + 8], bytearray(data[position + 8 : position + 8 + length])])
        position += 12 + length
    chunk = draw.choice(chunks)
    if chunk[0] == b"IDAT" and draw.random() < 0.5:
        pixels = bytearray(zlib.decompress(bytes(chunk[1])))
        draw.choice(CHANGES)(pixels, draw, kind)
        chunk[1] = bytearray(zlib.compress(bytes(pixels)))
    else:
        draw.choice(CHANGES)(chunk[1], draw, kind)
    if draw.random() < 0.3:
        draw.shuffle(chunks)
    out = data[:8]
    for name, content in chunks:
        out += len(content).to_bytes(4, "big") + name + content
        out += zlib.crc32(name + content).to_bytes(4, "big")
    return out


def in_zip(data: bytes, draw: random.Random, kind: Kind) -> bytes:
    """Change the content or the name of a member, and pack it again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: bytearray(archive.read(info)) for info in archive.infolist()}
    name = draw.choice(list(members))
    content = members.pop(name)
    if draw.random() < 0.2:
        name = draw.choice(("../../evil", "/evil", "C:\\evil", "a\\..\\b", name + "\0x", "x" * 300, name.upper(), ""))
    else:
        for _ in range(draw.randint(1, 3)):
            draw.choice(CHANGES)(content, draw, kind)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, value in (members | {name: content}).items():
            archive.writestr(zipfile.ZipInfo(member or "x"), bytes(value))
    return out.getvalue()


def in_tar(data: bytes, draw: random.Random, kind: Kind) -> bytes:
    """Change headers or contents of a tar, and correct the headers' checksums."""
    zipped = data[:2] == b"\x1f\x8b"
    content = bytearray(zlib.decompress(data, 31) if zipped else data)
    if draw.random() < 0.5:
        draw.choice(CHANGES)(content, draw, kind)
    starts = [i for i in range(0, len(content) - 511, 512) if content[i + 257 : i + 262] == b"ustar"]
    start = draw.choice(starts)
    field_at, size = draw.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    values = (b"../../evil", b"/evil", b"77777777777", b"\x80\0\0\0\0\0\0\xff\xff\xff\xff\xff", b"-1", b"x" * size, b"")
    value = bytes([draw.choice(b"0123456789xgLKSVD")]) if size == 1 else draw.choice(values)
    content[start + field_at : start + field_at + size] = value[:size].ljust(size, b"\0")
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    if not zipped:
        return bytes(content)
    packed = zlib.compressobj(wbits=31)
    return packed.compress(bytes(content)) + packed.flush()


# ---------------------------------------------------------------------------------------------------------------------
# Files to begin with
# ---------------------------------------------------------------------------------------------------------------------


def _picture(side: int = 24, seed: int = 0) -> np.ndarray:
    """SYNTHETIC: uint8 (side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


def _arrays() -> dict[str, np.ndarray]:
    values = np.arange(24, dtype=np.float32)
    blocks = {f"bb_{stage}_{block}.conv0._conv.weight": values[:2] for stage in range(4) for block in range(2)}
    return {"conv._conv.weight": values.reshape(2, 3, 2, 2), "out.weight": values.reshape(24, 1), **blocks}


def weights() -> list[Files]:
    import pickle

    from pmtrain.runs.formats.state_dict import dump_state

    class Attack:
        def __reduce__(self):
            return os.system, ("touch hacked",)

    own = bytes(dump_state(_arrays(), {"out.weight": "linear_0.w_0"}))
    numpys = [pickle.dumps(_arrays(), protocol=protocol) for protocol in (2, 3, 4)]
    deep = b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b"."
    doubled = b"\x80\x04]" + b"".join(b"(hhtq%c" % i for i in range(5)) + b"."  # memo of memos
    return [{"f": data} for data in (own, *numpys, pickle.dumps({"a": Attack()}, 2), deep, doubled)]


def optimizers() -> list[Files]:
    from pmtrain.runs.formats.state_dict import dump_state

    values = {f"linear_{i}.w_0_velocity_0": array for i, array in enumerate(_arrays().values())}
    plain = {"LR_Scheduler": {"last_lr": 0.1, "last_epoch": 3, "nested": [1, (2.5, None, True)]}}
    return [{"f": bytes(dump_state({**values, **plain}))}]


def safetensors_files() -> list[Files]:
    import safetensors.numpy

    hostile = []
    for header in (
        b'{"a":{"dtype":"F32","shape":[4294967295,4294967295],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"1," * 5000 + b'1],"data_offsets":[0,4]}}',
        b'{"a":' * 3000,
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ):
        hostile.append(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    return [{"f": data} for data in (safetensors.numpy.save(_arrays()), *hostile)]


def torch_files() -> list[Files]:
    from pmtrain.runs.formats.torch_writer import write_torch

    return [{"f": write_torch(_arrays())}]


INFO = {
    "format": 1, "layers": 18, "image_size": 64, "preprocessing": "notes", "class_names": ["no", "yes"],
    "threshold": 0.5, "threshold_rule": "youden on 8 validation images", "epoch": 3, "synthetic": True,
    "metrics": {"auc": 0.9, "loss": 0.5, "accuracy": None}, "weights_sha256": "ab" * 32, "pmtrain_version": "0.1",
    "prior": 0.5, 
    "calibration": {
        "method": "isotonic", "knots": [[-1.0, -2.0], [1.0, 2.0]], "prevalence": 0.5, "images": 8, "positives": 4,
    },
}  # fmt: skip


def side_files() -> list[Files]:
    found = json.dumps(INFO, indent=2).encode()
    return [
        {"f": found},
        {"f": b"[" * 100_000},
        {"f": b'{"format":' * 50_000},
        {"f": b'{"format":' + b"9" * 5000 + b"}"},
    ]


def run_folders() -> list[Files]:
    """The files of a run, each of which is changed in turn."""
    import hashlib

    from pmtrain.config import TrainConfig, dump_yaml

    arrays = weights()[0]["f"]
    digest = hashlib.sha256(arrays).hexdigest()
    side = json.dumps(INFO | {"weights_sha256": digest}).encode()
    state = {"epoch": 1, "batch": 0, "history": [], "best": None}
    hashes = {"model.pdparams": digest, "model.json": hashlib.sha256(side).hexdigest(), "optimizer.pdopt": digest}
    record = {"format": 1, "folder": "epoch1-batch0-0123abcd", "sha256": hashes, "state": state}
    home = "last/epoch1-batch0-0123abcd/"
    run = {
        "config.yaml": dump_yaml(TrainConfig(data=Path("data"))).encode(),
        "run.json": json.dumps({"data": {"root": "data", "fingerprint": "ab", "leakage": {}}, "pixels": {}}).encode(),
        "metrics.csv": b"epoch,train_loss,val_loss,val_accuracy,val_auc,lr,images_per_second\n0,0.6,0.5,1,,0.1,9\n",
        "images.csv": b"file,patient,label,split,bytes,sha256\na/1.png,,0,train,123," + b"ab" * 32 + b"\n",
        "validation.csv": b"file,patient,label,probability,logit\na/1.png,,0,0.5,0.0\nb/2.png,,1,0.7,0.8472979\n",
        "shortcut.json": json.dumps({"auc": {"size": 0.5}, "model": {"weights": [0.1, 2]}}).encode(),
        "folds.json": json.dumps({"folds": [{"fold": 1}]}).encode(),
        "best.pdparams": arrays,
        "best.json": side,
        "last/state.json": json.dumps(record).encode(),
        home + "model.pdparams": arrays,
        home + "model.json": side,
        home + "optimizer.pdopt": arrays,
    }
    return [{name: data, **run, CHANGED: name.encode()} for name, data in run.items()]  # the first is changed


def yaml_files() -> list[Files]:
    from pmtrain.config import TrainConfig, dump_yaml

    laughs = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    laughs += b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12))
    merged = b"a0: &a0 {k: v}\n" + b"".join(
        b"a%d: &a%d {<<: [%s]}\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 8)
    )
    texts = (
        b"".join(dump_yaml(TrainConfig(data=Path("data"))).encode().splitlines(True)[:12]),
        b"data: x\nepochs: 3\nlr: 1e-3\naugment: [flip, rotate]\n",
        laughs,
        b"data: " + laughs[4:],
        merged,
        b"data: &a [*a]\n",
        b"data: " + b"[" * 3000 + b"]" * 3000,
        b"data: " + b"{a: " * 3000,
        b"- " * 5000,
        b"data: !!python/object/apply:os.system ['touch hacked']\n",
        b"? " * 3000,
        b"epochs: " + b"9" * 10_000,
        b"lr: 1:59:59:59:59:59\nepochs: 0b1_1\nseed: 2001-01-01\n",
        b"%YAML 1.1\n---\ndata: x\n--- \ndata: y\n",
    )
    return [{"f": text} for text in texts]


TABLE = b"path,label,split,patient\n1.png,0,train,p1\n2.png,1,train,p2\n1.jpg,0,val,p3\n2.jpg,1,val,p4\n"


def _images() -> Files:
    import cv2

    return {
        f"{i}.{suffix}": cv2.imencode(f".{suffix}", _picture(seed=i))[1].tobytes()
        for i in (1, 2)
        for suffix in ("png", "jpg")
    }


def tables() -> list[Files]:
    texts = (
        TABLE,
        TABLE.replace(b",", b";"),
        TABLE.replace(b",", b"\t").decode().encode("utf-16"),
        b'image,grade\n"1.png",0\n"2.png",1\n',
        b"path,label\n1.png,\"=cmd|' /C calc'!A0\"\n2.png,+1\n",
        b'path,label\n"' + b"x" * 1_000_000,
        b"path,label\n" + b"x" * 1_000_000 + b",0\n",
        b"path,label\n" + b"," * 100_000 + b"\n",
        b"," * 100_000 + b"\n1.png,0\n",
        b"path,label\n/etc/passwd,0\n../../../etc/passwd,1\n",
        b"path,label\n" + b"1.png,0\n" * 10_000,
        b"\n" * 100_000,
    )
    return [{"f": text, **_images()} for text in texts]


def workbooks() -> list[Files]:
    import openpyxl

    found = []
    for rows in (
        [("path", "label"), ("1.png", 0), ("2.png", 1)],
        [("path", "label"), ("1.png", "=1+1"), ("2.png", '=HYPERLINK("http://x","1")')],
    ):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        stream = io.BytesIO()
        book.save(stream)
        found.append(stream.getvalue())
    with zipfile.ZipFile(io.BytesIO(found[0])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    doctype = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)
    )
    laughs = {name: data.replace(b"<worksheet", doctype + b"]><worksheet", 1) for name, data in members.items()}
    outside = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><worksheet'
    outside_members = {name: data.replace(b"<worksheet", outside, 1) for name, data in members.items()}
    for changed_members in (laughs, outside_members):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in changed_members.items():
                archive.writestr(name, data.replace(b"<v>0</v>", b"<v>&j;</v>"))
        found.append(stream.getvalue())
    return [{"f": data, **_images()} for data in found]


def _members() -> Files:
    return {f"{'no' if i % 2 else 'yes'}/{name}": data for i, (name, data) in enumerate(_images().items())}


def zips() -> list[Files]:
    found = []
    hostile = {"no/bomb.png": b"\0" * 3_000_000, "yes/1.png": b"x"}
    for members in (_members(), {"labels.csv": TABLE, **_images()}, hostile, {"../evil.png": b"x", "/abs.png": b"y"}):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        found.append({"f": stream.getvalue()})
    return found


def tars() -> list[Files]:
    found = []
    for mode, links in (("w", False), ("w:gz", False), ("w", True)):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
            for name, data in (_members() | {"no/" + "long" * 40 + ".png": _images()["1.png"]}).items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for kind, name in ((tarfile.SYMTYPE, "no/link.png"), (tarfile.LNKTYPE, "yes/hard.png")) * links:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)
        found.append({"f": stream.getvalue()})
    return found


def npz_files() -> list[Files]:
    values = np.stack([_picture(8, i)[..., 0] for i in range(4)])
    labels = np.array([[0], [1], [0], [1]])
    found = []
    for save, arrays in (
        (np.savez_compressed, {"train_images": values, "train_labels": labels}),
        (np.savez, {"x": values, "y": labels[:, 0]}),
        (np.savez, {"x": values, "y": np.array([{}, 1, 2, 3], object)}),
        (np.savez_compressed, {"x": np.zeros((4, 800, 800), np.uint8), "y": labels[:, 0]}),
    ):
        stream = io.BytesIO()
        save(stream, **arrays)
        found.append({"f": stream.getvalue()})
    return found


def hdf5_files() -> list[Files]:
    import h5py

    values = np.stack([_picture(8, i)[..., 0] for i in range(4)])
    found = []
    for outside in (False, True):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.create_dataset("x", data=values, chunks=(1, 8, 8), compression="gzip")
            if outside:
                file["y"] = h5py.ExternalLink("/etc/passwd", "/")
                file["z"] = h5py.SoftLink("/x")
            else:
                file["y"] = np.array([0, 1, 0, 1])
        found.append({"f": stream.getvalue()})
    return found


def parquet_files() -> list[Files]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = list(_images().values())
    cells = pa.array(
        [{"bytes": item, "path": "a"} for item in data], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    found = []
    for compression in ("none", "zstd"):
        stream = io.BytesIO()
        pq.write_table(pa.table({"image": cells, "label": [0, 1, 0, 1]}), stream, compression=compression)
        found.append({"f": stream.getvalue()})
    return found


def _png(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 2) -> bytes:
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 9)),
        (b"IEND", b""),
    )
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        out += len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
    return out


def pngs() -> list[Files]:
    import cv2

    deep = cv2.imencode(".png", _picture().astype(np.uint16) * 200)[1].tobytes()
    clear = cv2.imencode(".png", np.dstack([_picture(), _picture()[..., 0]]))[1].tobytes()
    bomb = _png(65535, 65535, b"\0" * 20_000_000, 1, 0)
    return [
        {"f": data}
        for data in (
            _images()["1.png"],
            deep,
            clear,
            _png(65535, 65535, b""),
            _png(32_000, 32_000, b"\0" * 100_000),
            _png(20_000, 20_000, b"\0" * 1000),
            bomb,
            _png(65535, 1, b"\0" * 200_000),
            _png(0, 0, b""),
            _png((1 << 31) - 1, 1, b""),
        )
    ]


def jpegs() -> list[Files]:
    from PIL import Image

    found = []
    for mode, options in (("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})):
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(_picture()).convert(mode).save(stream, "JPEG", exif=exif, **options)
        found.append(stream.getvalue())
    place = found[0].find(b"\xff\xc0")
    wide = found[0][: place + 5] + b"\xff\xff\xff\xff" + found[0][place + 9 :]  # 65,535 pixels wide and high
    large = found[0][: place + 5] + b"\x7d\0\x7d\0" + found[0][place + 9 :]  # 32,000: less than OpenCV's own limit
    scans = found[3][:-2] + found[3][found[3].find(b"\xff\xda") : -2] * 50 + b"\xff\xd9"
    return [{"f": data} for data in (*found, wide, large, scans)]


def tiffs() -> list[Files]:
    from PIL import Image

    found = []
    pages = [Image.fromarray(_picture(seed=i)) for i in range(2)]
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "jpeg"}):
        stream = io.BytesIO()
        pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], **options)
        found.append(stream.getvalue())
    stream = io.BytesIO()
    Image.fromarray(_picture()[..., 0].astype(np.uint16) * 99).save(stream, "TIFF", big_tiff=True)
    found.append(stream.getvalue())
    place = found[0].find(struct.pack("<HHI", 256, 3, 1))
    wide = bytearray(found[0])
    for tag in range(place, place + 24, 12):  # width and height
        wide[tag + 8 : tag + 10] = b"\xff\xff"
    return [{"f": data} for data in (*found, bytes(wide))]


def webps() -> list[Files]:
    from PIL import Image

    found = []
    for options in ({"quality": 50}, {"lossless": True}):
        stream = io.BytesIO()
        Image.fromarray(_picture()).save(stream, "WEBP", **options)
        found.append(stream.getvalue())
    stream = io.BytesIO()
    frames = [Image.fromarray(_picture(seed=i)) for i in range(3)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    found.append(stream.getvalue())
    wide = bytearray(found[0])
    wide[26:30] = b"\xff\x3f\xff\x3f"  # 16,383 x 16,383
    return [{"f": data} for data in (*found, bytes(wide))]


def others() -> list[Files]:
    """BMP, Netpbm, GIF."""
    from PIL import Image

    found = []
    for form in ("BMP", "PPM", "GIF", "TGA", "ICO"):
        stream = io.BytesIO()
        Image.fromarray(_picture()).save(stream, form)
        found.append({"f": stream.getvalue()})
    return [*found, {"f": b"P6\n65535 65535\n255\n"}, {"f": b"P5\n999999 999999\n65535\n\0"}]


def dicoms() -> list[Files]:
    import pydicom
    from pydicom.dataset import FileMetaDataset

    found = []
    for frames in (1, 3):
        head = FileMetaDataset()
        head.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        head.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        head.MediaStorageSOPInstanceUID = "1.2.3"
        data = pydicom.Dataset()
        data.file_meta = head
        data.Rows = data.Columns = 24
        data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 16, 12, 11
        data.PixelRepresentation, data.PhotometricInterpretation = 0, "MONOCHROME2"
        data.NumberOfFrames = frames
        data.PatientID = "p1"
        data.PixelData = (np.arange(24 * 24 * frames, dtype=np.uint16) % 4096).tobytes()
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, data, enforce_file_format=True)
        found.append({"f": stream.getvalue()})
    return found


def onnx_files() -> list[Files]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((3 * 8 * 8, 1), np.float32), "w")
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("logit", "probability")],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = "pmtrain", json.dumps(INFO | {"image_size": 8})
    outside = onnx.ModelProto()
    outside.CopyFrom(model)
    onnx.external_data_helper.set_external_data(outside.graph.initializer[0], "/etc/passwd")
    outside.graph.initializer[0].ClearField("raw_data")
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return [{"f": model.SerializeToString()}, {"f": outside.SerializeToString()}]


# ---------------------------------------------------------------------------------------------------------------------
# Reading, as the commands do
# ---------------------------------------------------------------------------------------------------------------------


def the_file(suffix: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Read `f` under a name with this suffix."""

    def act(folder: Path) -> object:
        path = folder / f"f{suffix}"
        (folder / "f").rename(path)
        try:
            return read(path)
        finally:
            path.rename(folder / "f")

    return act


def read_weights(path: Path) -> None:
    from pmtrain.runs.checkpoint import network_in
    from pmtrain.runs.formats.state_dict import parse_state
    from pmtrain.system.files import read_bytes

    parse_state(read_bytes(path), path)
    network_in(read_bytes(path), path, None)


def read_optimizer(path: Path) -> None:
    from pmtrain.runs.formats.state_dict import load_state

    load_state(path)


def read_side(path: Path) -> None:
    from pmtrain.runs.records import read_info

    info = read_info(path)
    _ = info.decision_threshold, info.probabilities(np.array([0.0, 50.0, -50.0]))


def read_run(folder: Path) -> None:
    """All that commands read of a run."""
    from pmtrain.data.splits.record import read_record
    from pmtrain.evaluation.scores.score_table import read_logits
    from pmtrain.runs.checkpoint import load_checkpoint
    from pmtrain.runs.resume_state import load_resume
    from pmtrain.runs.run_folder import RunFolder

    run = RunFolder(folder)
    whole = (lambda: load_resume(folder), lambda: load_checkpoint(folder))
    reads = {
        "config.yaml": (run.config,),
        "run.json": (run.info, run.leakage),
        "metrics.csv": (run.history,),
        "images.csv": (lambda: read_record(run.images),),
        "validation.csv": (lambda: read_logits(run.validation),),
        "shortcut.json": (run.read_shortcut,),
    }.get((folder / CHANGED).read_text(), whole)
    failures = [error for read in reads if (error := _refusal(read)) is not None]
    if failures:
        raise failures[0]


def _refusal(read: Callable[[], object]) -> Exception | None:
    from pmtrain.system.errors import PmtrainError

    try:
        read()
    except PmtrainError as error:
        return error
    return None


def read_config(path: Path) -> None:
    from pmtrain.config import TrainConfig
    from pmtrain.config.load import load_config

    load_config(TrainConfig, {}, path)


def read_data(path: Path) -> None:
    from pmtrain.data.images.packed import opening
    from pmtrain.data.images.read import read_image
    from pmtrain.data.layouts.readers import read_dataset

    opening._open.clear()  # the same second, size and inode may be another file
    for sample in read_dataset(path).samples[:4]:
        read_image(sample.path)


def read_picture(path: Path) -> None:
    from pmtrain.data.images.read import read_image

    pixels = read_image(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise AssertionError(f"{pixels.dtype} {pixels.shape}")


def read_onnx(path: Path) -> None:
    from pmtrain.runs.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    size = found.info.image_size
    assert found.exported is not None
    if size <= 64:
        found.exported.logits(np.zeros((2, 3, size, size), np.float32))


WORDS = (
    b"\0",
    b"\n",
    b"..",
    b"/",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"\xff\xfe",
    "\ud800".encode("utf-8", "surrogatepass"),
    b"9" * 400,
)
JSON = (
    *WORDS,
    b"{",
    b"[",
    b"}",
    b"]",
    b'"',
    b",",
    b":",
    b"true",
    b"Infinity",
    b'"\\ud800"',
    b"[[[[",
    b"1.5",
    b"{}",
    b"[]",
    b"2",
)
YAML = (
    *WORDS,
    b"&a ",
    b"*a",
    b"!!python/name:os.system",
    b"!!binary ",
    b"<<: ",
    b"? ",
    b"- ",
    b": ",
    b"|\n",
    b"[",
    b"{",
    b"%",
    b"'",
    b'"',
    b"# ",
    b"\t",
    b"2001-01-01",
    b"0x",
    b"yes",
    b"~",
)
CELLS = (
    *WORDS,
    b",",
    b";",
    b"\t",
    b'"',
    b'""',
    b"\r",
    b"=1+1",
    b"@x",
    b"path",
    b"label",
    b"split",
    b"train",
    b"1.png",
    b"../1.png",
    b"0",
    b"1",
    b"\xef\xbb\xbf",
    "标签".encode(),
)
XML = (
    *WORDS,
    b"<",
    b">",
    b"</v>",
    b"<v>",
    b"&lt;",
    b"&#0;",
    b'r="A1"',
    b'r="XFD1048576"',
    b't="s"',
    b"99999",
    b"<!--",
    b"]]>",
)
PICKLE = (
    b"c",
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"R",
    b"b",
    b"\x93",
    b"\x94",
    b"h\0",
    b"(",
    b"t",
    b"d",
    b"]",
    b"}",
    b".",
    b"\x81",
    b"Q",
    b"i",
    b"o",
    b"e",
    b"u",
    b"s",
    b"a",
    b"0",
    b"2",
    b"K\x01",
    b"N",
    b"\x88",
    *WORDS,
)

KINDS = {
    "pdparams": Kind(weights, the_file(".pdparams", read_weights), PICKLE),
    "pdopt": Kind(optimizers, the_file(".pdopt", read_optimizer), PICKLE),
    "safetensors": Kind(safetensors_files, the_file(".safetensors", read_weights), JSON),
    "pth": Kind(torch_files, the_file(".pth", read_weights), PICKLE, in_zip),
    "side": Kind(side_files, the_file(".json", read_side), JSON),
    "run": Kind(run_folders, read_run, (*JSON, *YAML, *CELLS)),
    "yaml": Kind(yaml_files, the_file(".yaml", read_config), YAML),
    "csv": Kind(tables, the_file(".csv", read_data), CELLS),
    "xlsx": Kind(workbooks, the_file(".xlsx", read_data), XML, in_zip),
    "zip": Kind(zips, the_file(".zip", read_data), WORDS, in_zip),
    "tar": Kind(tars, the_file(".tar", read_data), WORDS, in_tar),
    "npz": Kind(npz_files, the_file(".npz", read_data), (b"'descr'", b"'|O'", b"'<f8'", b"(4, 8, 8)", *WORDS), in_zip),
    "h5": Kind(hdf5_files, the_file(".h5", read_data), WORDS),
    "parquet": Kind(parquet_files, the_file(".parquet", read_data), WORDS),
    "png": Kind(pngs, the_file(".png", read_picture), WORDS, in_png),
    "jpeg": Kind(jpegs, the_file(".jpg", read_picture), tuple(b"\xff%c" % mark for mark in b"\xd8\xda\xc0\xc4\xd9")),
    "tiff": Kind(tiffs, the_file(".tif", read_picture), WORDS),
    "webp": Kind(webps, the_file(".webp", read_picture), WORDS),
    "bmp": Kind(others, the_file(".bmp", read_picture), WORDS),
    "dicom": Kind(dicoms, the_file(".dcm", read_picture), WORDS),
    "onnx": Kind(onnx_files, the_file(".onnx", read_onnx), (b"If", b"Loop", b"Constant", b"/etc/passwd", *JSON)),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# The process that reads
# ---------------------------------------------------------------------------------------------------------------------

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "os.startfile", "os.kill",
             "subprocess.Popen", "pty.spawn", "socket.", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link",
             "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.", "pickle.find_class",
             "code.__new__", "webbrowser.", "urllib.", "ctypes.dlopen", "sqlite3.connect")  # fmt: skip


class Watch:
    """An audit hook, which can't be removed: it notes what reading a file must not do."""

    def __init__(self) -> None:
        self.armed = False
        self.found: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        bad = event.startswith(FORBIDDEN)
        if event == "open":
            _path, mode, flags = arguments
            bad = bool(flags & WRITING) if isinstance(flags, int) else bool(mode and set(mode) & set("wax+"))
            bad = bad and str(arguments[0]) != os.devnull
        elif event == "exec":
            bad = not os.path.exists(getattr(arguments[0], "co_filename", "")) and not _importing()
        if bad:
            self.found.append(f"{event} {str(arguments)[:200]}")

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        self.found.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


def _importing() -> bool:
    """Whether a module of a library is being loaded: named tuples are code made from text."""
    frame: Any = sys._getframe()
    while frame and "importlib._bootstrap" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


class TooLong(BaseException):
    """An example took more than SECONDS."""


@dataclass
class Outcome:
    """What came of an example: `accepted`, `refused`, or a fault; `where`: the lines that raised, for what is new."""

    result: str
    where: str = ""


class Reader:
    """Reads examples in a folder, one after the other."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder, self.watch = kind, folder, Watch()
        folder.mkdir(exist_ok=True)
        self.there: Files = {}
        signal.signal(signal.SIGALRM, self.ring)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def ring(self, *_: object) -> None:
        raise TooLong

    def put(self, files: Files) -> None:
        for name, data in files.items():
            if self.there.get(name) != data:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)
        self.there = dict(files)

    def __call__(self, files: Files) -> Outcome:
        from pmtrain.system.errors import PmtrainError

        self.put(files)
        before = _listing(self.folder)
        signal.alarm(SECONDS)
        outcome = Outcome("accepted")
        try:
            with self.watch.on():
                self.kind.read(self.folder)
        except PmtrainError as error:
            outcome = Outcome("refused", _frames(error))
            if len(str(error)) > 20_000 or not error.message.strip():
                outcome = Outcome(f"fault: a message of {len(str(error))} characters", outcome.where)
        except TooLong:
            outcome = Outcome(f"fault: over {SECONDS} s")
        except BaseException as error:
            outcome = Outcome(f"fault: {type(error).__name__}: {str(error)[:200]} at {_frames(error)[-300:]}")
        finally:
            signal.alarm(0)
        said = [event for event in self.watch.found if not event.startswith("os.rename") or "'f" not in event]
        said = [event for event in said if str(self.folder) not in event or not event.startswith("os.rename")]
        if said:
            outcome = Outcome(f"fault: {said[0]}")
        if _listing(self.folder) != before:
            outcome = Outcome("fault: files were written or removed")
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            self.there = {}
        return outcome


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())


def _frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    while error.__context__ is not None:
        error = error.__context__
        frames += traceback.extract_tb(error.__traceback__)
    return " ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-12:])


def work(name: str, seed: int, first: int, last: int, folder: Path) -> None:
    """Read the examples from `first` to before `last`, and print a line of JSON for each."""
    kind = KINDS[name]
    files = kind.files()
    reader = Reader(kind, folder / "example")
    out = sys.stdout
    sys.stdout = io.StringIO()
    for warm in files:  # so that what is loaded late is loaded: and valid files are no faults
        reader(warm)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (max(MEMORY, now + (1 << 30)) if name == "onnx" else MEMORY,) * 2)
    os.chdir(folder / "empty")
    draw = random.Random(f"{seed} {name} {first}")
    corpus, known = list(files), set()
    for number in range(first, last):
        example = draw.choice(corpus)
        if sum(map(len, example.values())) > LARGE and draw.random() < 0.9:  # seldom: they take long
            example = draw.choice([some for some in corpus if sum(map(len, some.values())) <= LARGE] or corpus)
        if number >= len(files):
            main = next(iter(example))
            example = example | {main: changed(example[main], draw, kind)}
        else:
            example = files[number]
        print(json.dumps({"number": number, "begins": True}), file=out, flush=True)
        began = time.monotonic()
        outcome = reader(example)
        seconds = time.monotonic() - began
        if outcome.where not in known and sum(map(len, example.values())) < MOST_BYTES:
            known.add(outcome.where)
            corpus.append(example)
        print(json.dumps({"number": number, "result": outcome.result, "seconds": seconds}), file=out, flush=True)
        if "fault" in outcome.result:
            keep(folder, name, number, example)
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), file=out, flush=True)


def keep(folder: Path, name: str, number: int, files: Files) -> None:
    """Write down the files of a fault."""
    home = folder / "faults" / f"{name}-{number}"
    for file, data in files.items():
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_bytes(data)


# ---------------------------------------------------------------------------------------------------------------------
# The process that watches it
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of a kind's examples so far."""

    next: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0  # KiB, of the reading processes
    faults: dict[str, str] = field(default_factory=dict)

    def line(self, name: str) -> str:
        said = "".join(f"\n  example {number}: {what}" for number, what in list(self.faults.items())[:20])
        return (
            f"{name}: {self.next} examples in {self.seconds:.0f} s (the slowest {self.slowest:.2f} s, at most"
            f" {self.peak / 1024:.0f} MiB): {self.accepted} read, {self.refused} refused,"
            f" {len(self.faults)} faults{said}"
        )


def fuzz(name: str, examples: int, seed: int, folder: Path, ends: float) -> Tally:
    """Go on with one kind until its examples are done or the time is over."""
    for sub in ("empty", "example"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    record = folder / f"{name}.json"
    tally = Tally(**json.loads(record.read_text())) if record.exists() else Tally()
    while tally.next < examples and time.monotonic() < ends:
        last = min(examples, tally.next - tally.next % CHUNK + CHUNK)
        run_chunk(name, seed, last, folder, tally)
        record.write_text(json.dumps(vars(tally)))
    return tally


def run_chunk(name: str, seed: int, last: int, folder: Path, tally: Tally) -> None:
    """One process that reads up to `last`; where it dies, the example at fault is noted and the next one's turn."""
    program = [sys.executable, __file__, "--work", name, str(seed), str(tally.next), str(last), str(folder)]
    small = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "ARROW")}
    empty = str(folder / "empty")
    environment = {
        **os.environ,
        **small,
        "HOME": empty,
        "TMPDIR": empty,
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": str(ROOT),
    }
    began = time.monotonic()
    with (folder / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout
    signal.signal(signal.SIGALRM, lambda *_: process.kill())
    number: int | None = None
    signal.alarm(120)
    for line in process.stdout:
        said = json.loads(line)
        if "peak" in said:
            tally.peak = max(tally.peak, said["peak"])
        elif "begins" in said:
            number = said["number"]
            signal.alarm(SECONDS + 10)
        else:
            number, tally.next = None, said["number"] + 1
            tally.slowest = max(tally.slowest, said["seconds"])
            if said["result"] in ("accepted", "refused"):
                setattr(tally, said["result"], getattr(tally, said["result"]) + 1)
            else:
                tally.faults[str(said["number"])] = said["result"]
    signal.alarm(0)
    code = process.wait()
    if number is not None:  # it died on this one
        tally.faults[str(number)] = f"fault: the process ended with {code}"
        files = {
            str(path.relative_to(folder / "example")): path.read_bytes()
            for path in (folder / "example").rglob("*")
            if path.is_file()
        }
        keep(folder, name, number, files)
        shutil.rmtree(folder / "example")
        tally.next = number + 1
    elif code:
        raise SystemExit(f"{name}: can't begin:\n{(folder / 'stderr.txt').read_text()[-3000:]}")
    left = [path for path in (folder / "empty").iterdir() if path.name != ".cache"]
    if left:
        tally.faults[f"{tally.next - 1}, or before"] = f"fault: wrote {left[0].name}"
        shutil.rmtree(folder / "empty")
        (folder / "empty").mkdir()
    tally.seconds += time.monotonic() - began


def guided(name: str, examples: int, seed: int, folder: Path) -> None:
    """Read what atheris makes of the kind's files, in this process; it ends by itself, or at the first fault."""
    import atheris

    kind = KINDS[name]
    with atheris.instrument_imports(include=["pmtrain"]):
        files = kind.files()
        reader = Reader(kind, folder / "example")
        for warm in files:
            reader(warm)
    corpus = folder / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(files):
        (corpus / f"given-{number}").write_bytes(next(iter(example.values())))
    main, *_ = files[0]

    def one(data: bytes) -> None:
        outcome = reader(files[0] | {main: data})
        if "fault" in outcome.result:
            raise RuntimeError(outcome.result)

    limits = (f"-runs={examples}", f"-seed={seed + 1}", "-max_len=65536", f"-timeout={SECONDS}", "-rss_limit_mb=2048")
    atheris.Setup([sys.argv[0], str(corpus), *limits, f"-artifact_prefix={folder}/{name}-"], one)
    atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        name, seed, first, last, folder = sys.argv[2:]
        work(name, int(seed), int(first), int(last), Path(folder))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="+", choices=[*KINDS, "all"])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep faults and progress here, and go on with what is there")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time, with exit code 3")
    parser.add_argument("--atheris", action="store_true", help="guided by the lines that are reached; needs atheris")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="pmtrain-fuzz-") as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if options.atheris:
            guided(options.kind[0], options.examples, options.seed, folder)
            return 0
        tallies: dict[str, Tally] = {}
        for name in KINDS if options.kind == ["all"] else options.kind:
            tallies[name] = fuzz(name, options.examples, options.seed, folder, ends)
            if tallies[name].next < options.examples:
                print(f"{name}: {tallies[name].next} examples so far", file=sys.stderr)
                return UNFINISHED
        for name, tally in tallies.items():
            print(tally.line(name))
        return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
