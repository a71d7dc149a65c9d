"""Tables, archives and packed data sets to begin with, valid and hostile."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np

from fuzzing.changes import gzipped, zipped
from fuzzing.pictures import encoded, pixels, written

TABLE = b"path,label,split,patient\n1.png,0,train,p1\n2.png,1,train,p2\n1.jpg,0,val,p3\n2.jpg,1,val,p4\n"


def images() -> dict[str, bytes]:
    """The images that TABLE names."""
    return {f"{i}.{suffix}": encoded(f".{suffix}", pixels(seed=i)) for i in (1, 2) for suffix in ("png", "jpg")}


def tables() -> list[bytes]:
    return [
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
    ]


def workbooks() -> list[bytes]:
    import openpyxl

    found = []
    for first, second in ((0, 1), ("=1+1", '=HYPERLINK("http://x","1")')):
        book = openpyxl.Workbook()
        for row in (("path", "label"), ("1.png", first), ("2.png", second)):
            book.active.append(row)
        found.append(written(book.save))
    with zipfile.ZipFile(io.BytesIO(found[0])) as archive:
        members = {name: archive.read(name).replace(b"<v>0</v>", b"<v>&j;</v>") for name in archive.namelist()}
    laughs = b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    for entities in (b'<!ENTITY a "aaaaaaaaaa">' + laughs, b'<!ENTITY j SYSTEM "file:///etc/passwd">'):
        doctype = b"<!DOCTYPE x [" + entities + b"]><worksheet"
        found.append(zipped({name: data.replace(b"<worksheet", doctype, 1) for name, data in members.items()}))
    return found


def _by_class() -> dict[str, bytes]:
    return {f"{'no' if i % 2 else 'yes'}/{name}": data for i, (name, data) in enumerate(images().items())}


def zips() -> list[bytes]:
    bomb = {"no/bomb.png": b"\0" * 3_000_000, "yes/1.png": b"x"}
    outside = {"../evil.png": b"x", "/abs.png": b"y"}
    return [zipped(members) for members in (_by_class(), {"labels.csv": TABLE, **images()}, bomb, outside)]


def tars() -> list[bytes]:
    plain, linked = _tar(links=False), _tar(links=True)
    return [plain, gzipped(plain), linked]


def _tar(links: bool) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (_by_class() | {"no/" + "long" * 40 + ".png": images()["1.png"]}).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind, name in ((tarfile.SYMTYPE, "no/link.png"), (tarfile.LNKTYPE, "yes/hard.png")) * links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    return stream.getvalue()


def _grey() -> np.ndarray:
    return np.stack([pixels(8, i)[..., 0] for i in range(4)])


def npz_files() -> list[bytes]:
    labels = np.array([[0], [1], [0], [1]])
    kinds = (
        (np.savez_compressed, {"train_images": _grey(), "train_labels": labels}),
        (np.savez, {"x": _grey(), "y": labels[:, 0]}),
        (np.savez, {"x": _grey(), "y": np.array([{}, 1, 2, 3], object)}),
        (np.savez_compressed, {"x": np.zeros((4, 800, 800), np.uint8), "y": labels[:, 0]}),
    )
    return [written(lambda stream, save=save, arrays=arrays: save(stream, **arrays)) for save, arrays in kinds]


def hdf5_files() -> list[bytes]:
    return [written(lambda stream, outside=outside: _hdf5(stream, outside)) for outside in (False, True)]


def _hdf5(stream: io.BytesIO, outside: bool) -> None:
    import h5py

    with h5py.File(stream, "w") as file:
        file.create_dataset("x", data=_grey(), chunks=(1, 8, 8), compression="gzip")
        if outside:
            file["y"] = h5py.ExternalLink("/etc/passwd", "/")
            file["z"] = h5py.SoftLink("/x")
        else:
            file["y"] = np.array([0, 1, 0, 1])


def parquet_files() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": item, "path": "a"} for item in images().values()], kind)
    table = pa.table({"image": cells, "label": [0, 1, 0, 1]})
    return [
        written(lambda stream, packing=packing: pq.write_table(table, stream, compression=packing))
        for packing in ("none", "zstd")
    ]
