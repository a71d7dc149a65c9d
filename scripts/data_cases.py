"""What `pmtrain data split` makes of tables, folders and archives in the shapes that people have.

  python scripts/data_cases.py                            a Markdown table: the case, the command, what it prints
  python scripts/data_cases.py --before OTHER_CHECKOUT    and what another version's command prints
  python scripts/data_cases.py --only parquet zip         the cases whose names contain one of these words

The images are 24 SYNTHETIC files of 12 patients, both eyes of each. `data split` reads the listing and opens no image.
To add a case: a row of CASES.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from bench.turns import say
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))
from pmtrain.cli import app  # noqa: E402

os.environ["COLUMNS"] = "200"
NAMES = [f"{patient}_{side}" for patient in range(1, 13) for side in ("left", "right")]
GRADES = [number % 5 for number in range(24)]
ILL = [int(number // 2 % 2) for number in range(24)]  # by patient

Make = Callable[[Path], None]


def png(number: int) -> bytes:
    image = np.random.default_rng(number).integers(60, 200, (16, 16, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def images(folder: Path, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        (folder / f"{name}{suffix}").write_bytes(png(number))


def lines(head: str, row: Callable[[int, str], str], end: str = "\n") -> str:
    rows = [row(number, name) for number, name in enumerate(NAMES)]
    return end.join([head, *rows] if head else rows) + end


def table(text: str, name: str = "labels.csv", encoding: str = "utf-8", folder: str = "images") -> Make:
    def make(root: Path) -> None:
        images(root / folder)
        (root / name).write_bytes(text.encode(encoding))

    return make


def rows(
    head: str,
    row: str | Callable[[int, str], str],
    say: tuple[str, str] = ("ill", "normal"),
    above: str = "",
    end: str = "\n",
    name: str = "labels.csv",
    encoding: str = "utf-8",
    place: str | Callable[[int, str], str] = "images/{x}.png",
) -> Make:
    """A table with a row per image, and the images.

    Args:
        row, place: a line, and where its image is: a template, see `fields`, or a function of number and name.
        say: the words for `{ill}`.
    """

    def make(root: Path) -> None:
        put(place)(root)
        text = above + lines(head, row if callable(row) else lambda n, x: row.format(**fields(n, x, say)), end)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode(encoding))

    return make


def fields(n: int, x: str, say: tuple[str, str] = ("ill", "normal")) -> dict[str, object]:
    """What a template may contain."""
    return {
        "x": x, "n": n, "p": n // 2, "id": f"{n:04}", "ill": say[1 - ILL[n]], "one": ILL[n], "zero": 1 - ILL[n],
        "grade": GRADES[n], "split": ("train", "val")[n // 2 % 4 == 3], "eye": ("left", "right")[n % 2],
    }  # fmt: skip


def put(place: str | Callable[[int, str], str]) -> Make:
    """The images, each at its place."""

    def make(root: Path) -> None:
        for n, x in enumerate(NAMES):
            path = root / (place(n, x) if callable(place) else place.format(**fields(n, x)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(n))

    return make


def both(*makes: Make) -> Make:
    def make(root: Path) -> None:
        for each in makes:
            each(root)

    return make


def text(name: str, content: str) -> Make:
    def make(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)

    return make


def by_patient(head: str, row: str) -> Make:
    """A table with a row per patient, `{p}` from 1 to 12, and the images."""
    return both(
        put("images/{x}.png"),
        text("labels.csv", lines_of(head, [row.format(p=p, one=p % 2, two=p % 3 // 2) for p in range(1, 13)])),
    )


def lines_of(head: str, body: list[str]) -> str:
    return "\n".join([head, *body]) + "\n"


def excel(*sheets: tuple[str, list[list[object]]], hidden: str = "", merged: tuple[str, ...] = ()) -> Make:
    """A workbook of sheets (name, rows); `merged`: ranges of the last one."""

    def make(root: Path) -> None:
        import openpyxl

        put("images/{x}.png")(root)
        book = openpyxl.Workbook()
        book.remove(book.active)
        for name, content in sheets:
            sheet = book.create_sheet(name)
            for row in content:
                sheet.append(row)
            sheet.sheet_state = "hidden" if name == hidden else "visible"
        for each in merged:
            sheet.merge_cells(each)
        book.save(root / "labels.xlsx")

    return make


def cells(*names: str) -> list[list[object]]:
    """Rows of the fields of each image, the first of them its file name."""
    return [[f"{x}.png", *(fields(n, x)[name] for name in names)] for n, x in enumerate(NAMES)]


def packed(name: str, make: Make) -> Make:
    """What `make` makes, as the only members of a zip or tar archive, at its top."""
    if name.endswith(".zip"):
        return zipped(make, name=name)
    return tarred(make, name, "w:" + {"gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}.get(name.split(".")[-1], ""))


def arrays(name: str, **values: Callable[[], object] | object) -> Make:
    def make(root: Path) -> None:
        np.savez(root / name, **values)  # type: ignore[arg-type]

    return make


def h5(name: str, **values: object) -> Make:
    """Names with `__` are of arrays in groups."""

    def make(root: Path) -> None:
        import h5py

        with h5py.File(root / name, "w") as file:
            for key, value in values.items():
                file[key.replace("__", "/")] = value

    return make


def shard(name: str) -> Make:
    """A tar as WebDataset has them."""

    def make(root: Path) -> None:
        with tarfile.open(root / name, "w") as archive:
            for n in range(24):
                for end, content in (("png", png(n)), ("cls", str(ILL[n]).encode())):
                    info = tarfile.TarInfo(f"{n:06}.{end}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))

    return make


def chinese_zip(root: Path) -> None:
    """Names in GBK, as Windows writes them."""
    packed("set.zip", put(lambda n, x: f"{('AAAA', 'BBBB')[ILL[n]]}/{x}.png"))(root)
    data = (root / "set.zip").read_bytes()
    for ascii_name, name in ((b"AAAA/", "正常/"), (b"BBBB/", "近视/")):
        data = data.replace(ascii_name, name.encode("gbk"))
    (root / "set.zip").write_bytes(data)


def classes(root: Path, splits: tuple[str, ...] = ("",), names: tuple[str, str] = ("normal", "ill")) -> None:
    for number, name in enumerate(NAMES):
        folder = root / splits[number % len(splits)] / names[ILL[number]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(png(number))


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def zipped(make: Make, top: str = "", name: str = "set.zip", litter: bool = False) -> Make:
    def made(root: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch))
            with zipfile.ZipFile(root / name, "w") as archive:
                for path in files_below(Path(scratch)):
                    archive.write(path, top + path.relative_to(scratch).as_posix())
                if litter:
                    archive.writestr("__MACOSX/._set", b"x")

    return made


def tarred(make: Make, name: str, mode: str, top: str = "") -> Make:
    def made(root: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch, tarfile.open(root / name, mode) as archive:  # type: ignore[call-overload]
            make(Path(scratch))
            for path in files_below(Path(scratch)):
                archive.add(path, top + path.relative_to(scratch).as_posix())

    return made


def traversal(root: Path) -> None:
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        archive.writestr("normal/1.png", png(1))
        archive.writestr("../../ill/2.png", png(2))


def bomb(root: Path) -> None:
    with zipfile.ZipFile(root / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("normal/1.png", png(1))
        with archive.open("ill/2.png", "w") as member:
            for _ in range(1100):
                member.write(bytes(1 << 20))


def link(root: Path) -> None:
    with tarfile.open(root / "set.tar", "w") as archive:
        info = tarfile.TarInfo("ill/2.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)


def npz(name: str, kinds: int, shape: tuple[int, ...], labels: tuple[int, ...] = (1,), compressed: bool = True) -> Make:
    def make(root: Path) -> None:
        rng = np.random.default_rng(0)
        arrays = {}
        for split, count in (("train", 12), ("val", 6), ("test", 6)):
            arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
            arrays[f"{split}_labels"] = (np.arange(count * int(np.prod(labels))) % kinds).reshape(count, *labels)
        (np.savez_compressed if compressed else np.savez)(root / name, **arrays)

    return make


def pcam(root: Path, packed: bool = False) -> None:
    import h5py

    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 6), ("test", 6)):
        for end, values in (
            ("x", rng.integers(0, 256, (count, 96, 96, 3), np.uint8)),
            ("y", (np.arange(count, dtype=np.uint8) % 2).reshape(count, 1, 1, 1)),
        ):
            path = root / f"camelyonpatch_level_2_split_{split}_{end}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset(end, data=values)
            if packed:
                Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()


def hub(
    root: Path, names: tuple[str, ...], plain: bool = False, label: str = "label", text: bool = False, meta: bool = True
) -> None:
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.binary() if plain else pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    for part, file in enumerate(names):
        own = range(part, 24, len(names))
        cells = [png(n) if plain else {"bytes": png(n), "path": f"{NAMES[n]}.png"} for n in own]
        labels = [("ill" if ILL[n] else "normal") if text else ILL[n] for n in own]
        made = pyarrow.table({"image": pyarrow.array(cells, kind), label: labels})
        if meta:
            features = {label: {"names": ["normal", "ill"], "_type": "ClassLabel"}}
            made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(made, root / file)


def rename(path: Path, old: str, new: str) -> None:
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(read.rename_columns([new if name == old else name for name in read.column_names]), path)


def widen(path: Path) -> None:
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(path)
    read = read.append_column("patient_id", pyarrow.array([n // 2 for n in range(len(read))]))
    read = read.append_column("split", pyarrow.array([("train", "test")[n % 4 == 3] for n in range(len(read))]))
    pyarrow.parquet.write_table(read, path)


def ill(number: int, yes: str = "ill", no: str = "normal") -> str:
    return yes if ILL[number] else no


ODIR = "ID,Age,Left-Fundus,Right-Fundus,Keywords,N,M,D"
BY_EYE = by_patient(ODIR, "{p},50,{p}_left.png,{p}_right.png,,{one},{two},0")
PIXELS, LABELS = np.zeros((24, 8, 8, 3), np.uint8), np.array(ILL)
HALVES = {"train": slice(12), "test": slice(12, 24)}
SPLIT_TABLES = both(
    put("images/{x}.png"),
    *(
        text(
            f"{part}.csv",
            lines_of(
                "image,label", [f"{x}.png,{ill(n)}" for n, x in enumerate(NAMES) if (n % 4 == 3) == (part == "val")]
            ),
        )
        for part in ("train", "val")
    ),
)
SHEET = ("Labels", [["Bild", "Befund", "Patient"], *cells("ill", "p")])


# Name, what to make, and the options after `pmtrain data split`.
CASES: list[tuple[str, Make, str]] = [
    (
        "APTOS: `id_code`, names without suffix",
        rows("id_code,diagnosis", "{x},{grade}"),
        "labels.csv --positive 2,3,4",
    ),
    ("grades without --positive", rows("id_code,diagnosis", "{x},{grade}"), "labels.csv"),
    (
        "ISIC: `isic_id`, `target`, patients",
        rows("isic_id,patient_id,target", "{x},P{p},{one}"),
        "labels.csv",
    ),
    (
        "RSNA: `patientId`, `Target`",
        rows("patientId,image_id,Target", "p{p},{x},{one}"),
        "labels.csv",
    ),
    ("no head, UTF-8 mark", rows("", "{x}.png,{ill}", encoding="utf-8-sig"), "labels.csv"),
    (
        "fastai: `is_valid`",
        rows("fname,labels,is_valid", lambda n, x: f"{x}.png,{ill(n, 'PM')},{n % 4 == 3}"),
        "labels.csv",
    ),
    (
        "German, Latin-1, semicolons, decimal commas",
        rows(
            "Bilddatei;Diagnose;Visus",
            lambda n, x: f"{x}.png;{ill(n, 'erhöht', 'unauffällig')};0,{n % 10}",
            encoding="latin-1",
        ),
        "labels.csv",
    ),
    (
        "French, UTF-8",
        rows("fichier,étiquette", "{x}.png,{ill}", say=("malade", "sain")),
        "labels.csv",
    ),
    ("Spanish", rows("imagen,etiqueta", "{x}.png,{ill}", say=("glaucoma", "sano")), "labels.csv"),
    (
        "Portuguese",
        rows("arquivo,rótulo", "{x}.png,{ill}", say=("doente", "saudável")),
        "labels.csv",
    ),
    ("Italian", rows("immagine,etichetta", "{x}.png,{ill}", say=("malato", "sano")), "labels.csv"),
    ("Japanese", rows("ファイル名,ラベル", "{x}.png,{ill}", say=("緑内障", "正常")), "labels.csv"),
    ("Korean", rows("파일명,라벨", "{x}.png,{ill}", say=("녹내장", "정상")), "labels.csv"),
    ("Russian", rows("файл,метка", "{x}.png,{ill}", say=("глаукома", "норма")), "labels.csv"),
    (
        "Chinese, GB 18030",
        rows("图片名,诊断", "{x}.png,{ill}", say=("青光眼", "正常"), encoding="gb18030"),
        "labels.csv",
    ),
    (
        "UTF-16 with tabs, as Excel saves Unicode text",
        table(lines("image\tlabel", lambda n, x: f"{x}.png\t{ill(n)}", "\r\n"), "labels.txt", "utf-16"),
        "labels.txt",
    ),
    ("pipes between cells", rows("image|label", "{x}.png|{ill}"), "labels.csv"),
    ("Windows paths", table(lines("path,label", lambda n, x: f"images\\{x}.png,{ill(n)}", "\r\n")), "labels.csv"),
    (
        "absolute Windows paths of another machine",
        rows("path,label", "C:\\data\\images\\{x}.png,{ill}"),
        "labels.csv",
    ),
    (
        "absolute Linux paths of another machine",
        rows("path,label", "/home/anna/images/{x}.png,{ill}"),
        "labels.csv",
    ),
    ("paths that begin with ./", rows("path,label", "./images/{x}.png,{ill}"), "labels.csv"),
    ("another suffix than the files'", rows("path,label", "{x}.jpg,{ill}"), "labels.csv"),
    (
        "upper and lower case of names",
        rows("path,label", lambda n, x: f"{x.upper()}.PNG,{ill(n)}"),
        "labels.csv",
    ),
    (
        "`Yes`, `yes`, `NO`",
        rows(
            "image,glaucoma", lambda n, x: f"{x}.png,{('Yes', 'yes', 'YES ')[n % 3] if ILL[n] else ('NO', 'no')[n % 2]}"
        ),
        "labels.csv",
    ),
    (
        "`1`, `1.0`, `01`",
        rows("image,label", lambda n, x: f"{x}.png,{('1', '1.0', '01')[n % 3] if ILL[n] else '0'}"),
        "labels.csv",
    ),
    ("TRUE and FALSE", rows("image,has_glaucoma", lambda n, x: f"{x}.png,{bool(ILL[n])}"), "labels.csv"),
    ("`+` and `-`", rows("image,label", "{x}.png,{ill}", say=("+", "-")), "labels.csv"),
    (
        "negatives by other names",
        rows("image,label", "{x}.png,{ill}", say=("AMD", "no finding")),
        "labels.csv",
    ),
    (
        "grades 0 against 2 and 3, the rest left out",
        rows("image,grade", lambda n, x: f"{x}.png,{(0, 1, 2, 3, -1, 'ungradable')[n % 6]}"),
        "labels.csv --positive 2,3 --negative 0",
    ),
    (
        "patients `1` and `001`",
        rows("image,patient,label", lambda n, x: f"{x}.png,{n // 2 + 1 if n % 2 else f'{n // 2 + 1:03}'},{ill(n)}"),
        "labels.csv",
    ),
    ("a total at the end", table(lines("image,label", lambda n, x: f"{x}.png,{ill(n)}") + "Total,24\n"), "labels.csv"),
    (
        "the same with --skip-missing",
        table(lines("image,label", lambda n, x: f"{x}.png,{ill(n)}") + "Total,24\n"),
        "labels.csv --skip-missing",
    ),
    (
        "a column an eye, M against the rest",
        BY_EYE,
        "labels.csv --path-column Left-Fundus --path-column Right-Fundus --label-column M",
    ),
    (
        "a column a disease, one of them 1 (HAM10000, ISIC 2018)",
        rows("image,MEL,NV,BCC", lambda n, x: f"{x},{n % 3 == 0:.1f},{n % 3 == 1:.1f},{n % 3 == 2:.1f}"),
        "labels.csv --label-column MEL --label-column NV --label-column BCC --positive MEL",
    ),
    (
        "one of these columns",
        rows("image,MEL,NV,BCC", lambda n, x: f"{x},{n % 3 == 0:.1f},{n % 3 == 1:.1f},{n % 3 == 2:.1f}"),
        "labels.csv --label-column MEL",
    ),
    (
        "several diseases in one cell (NIH chest X-rays)",
        rows(
            "Image Index,Finding Labels,Patient ID",
            lambda n, x: f"{x}.png,{'Effusion|Mass' if ILL[n] else 'No Finding'},{n // 2}",
        ),
        "labels.csv",
    ),
    ("Excel, the second sheet", excel(("Read me", [["Clinic of eyes"]]), SHEET), "labels.xlsx --sheet Labels"),
    ("Excel, a first sheet without a table", excel(("Read me", [["Clinic of eyes"]]), SHEET), "labels.xlsx"),
    (
        "`image.path`, `split` with `validation`",
        rows("image.path,label,split", lambda n, x: f"{x}.png,{ill(n)},{'validation' if n % 4 == 3 else 'train'}"),
        "labels.csv",
    ),
    (
        "splits `dev`, `eval`, `holdout`",
        rows("image,label,split", lambda n, x: f"{x}.png,{ill(n)},{('train', 'dev', 'holdout')[n % 3]}"),
        "labels.csv",
    ),
    ("folders of classes", classes, "."),
    ("splits above classes: Train, Valid, Test", lambda root: classes(root, ("Train", "Valid", "Test")), "."),
    ("splits `training`, `dev`", lambda root: classes(root, ("training", "dev")), "."),
    ("splits `train`, `eval`", lambda root: classes(root, ("train", "eval")), "."),
    ("classes called 0 and 1", lambda root: classes(root, names=("0", "1")), "."),
    ("classes called NORMAL and PNEUMONIA", lambda root: classes(root, names=("NORMAL", "PNEUMONIA")), "."),
    (
        "zip, one folder at the top, macOS litter",
        zipped(lambda root: classes(root, ("train", "val", "test")), "dataset/", litter=True),
        "set.zip",
    ),
    (
        "zip with a table and its images",
        zipped(rows("image,label", "{x}.png,{ill}")),
        "set.zip",
    ),
    (
        "a table beside a zip of images",
        both(
            zipped(images, name="images.zip"),
            text("labels.csv", lines("image,label", lambda n, x: f"{x}.png,{ill(n)}")),
        ),
        "labels.csv --root images.zip",
    ),
    (".tar", tarred(classes, "set.tar", "w"), "set.tar"),
    (".tar.gz, one folder at the top", tarred(classes, "set.tar.gz", "w:gz", "set/"), "set.tar.gz"),
    (".tgz", tarred(classes, "set.tgz", "w:gz"), "set.tgz"),
    (".tar.bz2", tarred(classes, "set.tar.bz2", "w:bz2"), "set.tar.bz2"),
    (".tar.xz", tarred(classes, "set.tar.xz", "w:xz"), "set.tar.xz"),
    ("a zip of zips", packed("all.zip", both(packed("train.zip", classes), packed("val.zip", classes))), "all.zip"),
    ("a zip with a name that leads out of it", traversal, "set.zip"),
    ("a zip bomb: 1.1 GiB in 1 MiB", bomb, "set.zip"),
    ("a tar with a link", link, "set.tar"),
    ("PneumoniaMNIST", npz("pneumoniamnist.npz", 2, (28, 28)), "pneumoniamnist.npz"),
    ("BreastMNIST at 224 pixels", npz("breastmnist_224.npz", 2, (224, 224), compressed=False), "breastmnist_224.npz"),
    ("RetinaMNIST", npz("retinamnist.npz", 5, (28, 28, 3)), "retinamnist.npz --positive 2,3,4"),
    ("ChestMNIST, 14 labels an image", npz("chestmnist.npz", 2, (28, 28), (14,)), "chestmnist.npz"),
    ("MedMNIST's volumes", npz("nodulemnist3d.npz", 2, (28, 28, 28)), "nodulemnist3d.npz"),
    (
        "an .npz of X_train and y_train",
        arrays(
            "set.npz",
            X_train=np.zeros((12, 8, 8), np.uint8),
            y_train=np.arange(12) % 2,
            X_test=np.zeros((6, 8, 8), np.uint8),
            y_test=np.arange(6) % 2,
        ),
        "set.npz",
    ),
    ("a folder with one .npz", npz("breastmnist.npz", 2, (28, 28)), "."),
    ("PatchCamelyon, the folder", pcam, "."),
    ("PatchCamelyon, one file", pcam, "camelyonpatch_level_2_split_train_x.h5"),
    ("PatchCamelyon, still packed (.h5.gz)", lambda root: pcam(root, packed=True), "."),
    ("one .h5 of images and labels", h5("set.h5", images=np.zeros((24, 8, 8), np.uint8), labels=LABELS), "set.h5"),
    (
        "the hub's Parquet shards",
        lambda root: hub(
            root,
            (
                "data/train-00000-of-00002.parquet",
                "data/train-00001-of-00002.parquet",
                "data/validation-00000-of-00001.parquet",
            ),
        ),
        ".",
    ),
    (
        "the hub's default/train/0000.parquet",
        lambda root: hub(root, ("default/train/0000.parquet", "default/test/0000.parquet")),
        ".",
    ),
    ("Parquet, images as plain bytes", lambda root: hub(root, ("set.parquet",), plain=True), "set.parquet"),
    ("Parquet, labels as text", lambda root: hub(root, ("set.parquet",), text=True, meta=False), "set.parquet"),
    ("Parquet, `labels`", lambda root: hub(root, ("set.parquet",), label="labels", meta=False), "set.parquet"),
    ("Parquet in a zip", zipped(lambda root: hub(root, ("train.parquet", "test.parquet"))), "set.zip"),
    ("Turkish", rows("dosya,etiket", "{x}.png,{ill}", say=("hasta", "sağlıklı")), "labels.csv"),
    ("Polish", rows("plik,etykieta", "{x}.png,{ill}", say=("chory", "zdrowy")), "labels.csv"),
    ("Arabic", rows("الملف,التشخيص", "{x}.png,{ill}", say=("مريض", "سليم")), "labels.csv"),
    (
        "Chinese splits and patients",
        rows(
            "图像,患者编号,标签,数据集",
            lambda n, x: f"{x}.png,{n // 2},{ill(n, '是', '否')},{('训练集', '验证集')[n % 4 == 3]}",
        ),
        "labels.csv",
    ),
    (
        "UTF-16 without a mark",
        rows("image,label", "{x}.png,{ill}", encoding="utf-16-le"),
        "labels.csv",
    ),
    (
        "Shift JIS",
        rows("画像,診断", "{x}.png,{ill}", say=("緑内障", "正常"), encoding="shift-jis"),
        "labels.csv",
    ),
    (
        "Big5",
        rows("圖片,診斷", "{x}.png,{ill}", say=("青光眼", "正常"), encoding="big5"),
        "labels.csv",
    ),
    (
        "quotes, blanks after commas, empty columns at the end",
        table(lines('"image", "label",,', lambda n, x: f'"{x}.png", "{ill(n)}",,')),
        "labels.csv",
    ),
    (
        "a comment above the head",
        table("# made by Anna, 2024\n" + lines("image,label", lambda n, x: f"{x}.png,{ill(n)}")),
        "labels.csv",
    ),
    ("an index column of pandas", rows(",image,label", "{n},{x}.png,{ill}"), "labels.csv"),
    (
        "addresses of the web",
        rows("image_url,label", "https://example.org/a/{x}.png,{ill}"),
        "labels.csv",
    ),
    (
        "a list of file names and labels, as ImageNet has it",
        table(lines("", lambda n, x: f"images/{x}.png {ILL[n]}"), "list.txt"),
        "list.txt",
    ),
    (
        "one row an image and disease (long table)",
        table(
            "image,disease\n"
            + "".join(f"{x}.png,{d}\n" for n, x in enumerate(NAMES) for d in (["AMD", "DR"] if ILL[n] else ["normal"]))
        ),
        "labels.csv",
    ),
    (
        "labels in the file names alone",
        lambda root: [(root / f"{ill(n)}_{x}.png").write_bytes(png(n)) for n, x in enumerate(NAMES)] and None,
        ".",
    ),
    (
        "three classes of folders, one positive",
        lambda root: (classes(root), (root / "other").mkdir(), (root / "other" / "1.png").write_bytes(png(99)), None)[
            3
        ],
        ". --positive ill",
    ),
    ("splits in their own tables: train.csv, val.csv", SPLIT_TABLES, "train.csv --val-data val.csv"),
    ("the folder with both tables", SPLIT_TABLES, "."),
    (
        "metadata.jsonl (the hub)",
        lambda root: (
            images(root),
            (root / "metadata.jsonl").write_text(
                lines("", lambda n, x: json.dumps({"file_name": f"{x}.png", "label": ILL[n]}))
            ),
            None,
        )[2],
        ".",
    ),
    (
        "one-hot labels in an .npz",
        arrays("set.npz", train_images=np.zeros((12, 8, 8, 3), np.uint8), train_labels=np.eye(2)[np.arange(12) % 2]),
        "set.npz",
    ),
    (
        "float images in an .npz",
        arrays("set.npz", train_images=np.zeros((12, 8, 8, 3)), train_labels=np.arange(12) % 2),
        "set.npz",
    ),
    (
        "channels first in an .npz",
        arrays("set.npz", train_images=np.zeros((12, 3, 8, 8), np.uint8), train_labels=np.arange(12) % 2),
        "set.npz",
    ),
    (
        "Python objects in an .npz",
        arrays("set.npz", train_images=np.zeros((12, 8, 8), np.uint8), train_labels=np.array(["a", None] * 6)),
        "set.npz",
    ),
    (
        "Parquet, images as lists of bytes dicts under `img`",
        lambda root: (hub(root, ("x.parquet",)), rename(root / "x.parquet", "image", "img"), None)[2],
        ".",
    ),
    (
        "Parquet with a patient and a split column",
        lambda root: (hub(root, ("x.parquet",)), widen(root / "x.parquet"), None)[2],
        "x.parquet",
    ),
    (
        "ImageFolder with metadata.csv (the hub)",
        lambda root: (
            images(root / "train"),
            (root / "train" / "metadata.csv").write_text(lines("file_name,label", lambda n, x: f"{x}.png,{ill(n)}")),
            None,
        )[2],
        "train",
    ),
    ("`ImageName;Befund`, PM and kein PM", rows("ImageName;Befund", "{x}.png;{ill}", ("PM", "kein PM")), "labels.csv"),
    (
        "`Dateiname`, a column of unknown name with ja and nein",
        rows("Dateiname;Patientennummer;Myopie", "{x}.png;{p};{ill}", ("ja", "nein")),
        "labels.csv",
    ),
    (
        "`文件名`, `病人编号`, `结果`, GBK",
        rows("文件名,病人编号,年龄,结果", "{x}.png,{p},50,{ill}", ("异常", "正常"), encoding="gbk"),
        "labels.csv",
    ),
    ("PM and non-PM", rows("image,diagnosis", "{x}.png,{ill}", ("PM", "non-PM")), "labels.csv"),
    ("0.0 and 1.0", rows("image,label", "{x}.png,{one}.0"), "labels.csv"),
    ("0,0 and 1,0", rows("image;label", "{x}.png;{one},0"), "labels.csv"),
    ("digits of full width", rows("image,label", "{x}.png,{ill}", ("１", "０")), "labels.csv"),
    ("`grade 0` to `grade 4`", rows("image,severity", "{x}.png,grade {grade}"), "labels.csv"),
    (
        "three labels, one positive",
        rows("image,label", lambda n, x: f"{x}.png,{('PM', 'HM', 'normal')[n % 3]}"),
        "labels.csv --positive PM",
    ),
    ("Korean, CP949", rows("파일명,진단", "{x}.png,{ill}", ("녹내장", "정상"), encoding="cp949"), "labels.csv"),
    (
        "Russian, Windows-1251",
        rows("файл;диагноз", "{x}.png;{ill}", ("глаукома", "норма"), encoding="cp1251"),
        "labels.csv",
    ),
    (
        "Polish, Windows-1250",
        rows("plik;opis;wynik", "{x}.png;żółta;{ill}", ("chory", "zdrowy"), encoding="cp1250"),
        "labels.csv",
    ),
    ("line breaks in cells", rows("image,comment,label", '{x}.png,"first line\nsecond, line",{ill}'), "labels.csv"),
    ("blank lines", rows("image,label", "{x}.png,{ill}\n"), "labels.csv"),
    ("comments between the lines", rows("image,label", "# number {n}\n{x}.png,{ill}"), "labels.csv"),
    ("a comma at the end of each row", rows("image,label", "{x}.png,{ill},"), "labels.csv"),
    ("a title above the head", rows("image;label", "{x}.png;{ill}", above="Clinic of eyes, 2024\n\n"), "labels.csv"),
    (
        "a head of two lines",
        rows("Image,Diagnosis,\n,PM,AMD", "{x}.png,{one},0"),
        "labels.csv --label-column 'Diagnosis PM'",
    ),
    ("the same, without the column", rows("Image,Diagnosis,\n,PM,AMD", "{x}.png,{one},0"), "labels.csv"),
    (
        "Excel, a merged title",
        excel(("A", [["Clinic of eyes"], ["Bild", "Befund"], *cells("ill")]), merged=("A1:B1",)),
        "labels.xlsx",
    ),
    (
        "Excel, merged cells in the head",
        excel(
            ("A", [["Image", "Diagnosis", None], [None, "PM", "AMD"], *cells("one", "zero")]), merged=("A1:A2", "B1:C1")
        ),
        "labels.xlsx --label-column 'Diagnosis PM'",
    ),
    (
        "Excel, the first sheet hidden",
        excel(("old", [["image", "label"], ["x.png", 1]]), SHEET, hidden="old"),
        "labels.xlsx",
    ),
    (
        "Excel, a table that begins at B3",
        excel(("A", [[], [], [None, "image", "label"], *([None, *row] for row in cells("one"))])),
        "labels.xlsx",
    ),
    ("Excel, a table in the folder by no known names", excel(("A", [["Aufnahme Nr", "Myopie"], *cells("ill")])), "."),
    (
        "patients `P001` and `p1`",
        rows("image,patient,label", lambda n, x: f"{x}.png,{f'P{n // 2:03}' if n % 2 else f'p{n // 2}'},{ill(n)}"),
        "labels.csv",
    ),
    (
        "patients and labels `nan`",
        rows("image,patient,label", lambda n, x: f"{x}.png,{'nan' if n < 6 else n // 2},{'nan' if n < 4 else ILL[n]}"),
        "labels.csv --exclude ''",
    ),
    ("names with `.JPG` for `.png`", rows("image,label", "{x}.JPG,{ill}"), "labels.csv"),
    ("names with `%20`", rows("image,label", "eye%20{x}.png,{ill}", place="images/eye {x}.png"), "labels.csv"),
    ("names without the files' zeros", rows("id,label", "{n},{ill}", place="images/{id}.png"), "labels.csv"),
    ("names as 12.0", rows("id,label", "{n}.0,{ill}", place="images/{n}.png"), "labels.csv"),
    (
        "accents in two parts, as macOS writes them",
        rows("image,label", "\u00fcber {x}.png,{ill}", place="images/u\u0308ber {x}.png"),
        "labels.csv",
    ),
    ("paths of another folder", rows("path,label", "dataset/all/{x}.png,{ill}"), "labels.csv"),
    (
        "a table in labels/, the images beside",
        rows("image,label", "{x}.png,{ill}", name="labels/labels.csv"),
        "labels/labels.csv",
    ),
    ("the folder of these", rows("image,label", "{x}.png,{ill}", name="labels/labels.csv"), "."),
    (
        "IDRiD's folders",
        rows(
            "Image name,Retinopathy grade,Risk of macular edema ",
            "{x},{grade},0",
            name="2. Groundtruths/a. Training Labels.csv",
            place="1. Original Images/a. Training Set/{x}.png",
        ),
        "'2. Groundtruths/a. Training Labels.csv' --label-column 'Retinopathy grade' --positive 2,3,4",
    ),
    (
        "images in several folders (NIH chest X-rays)",
        rows(
            "Image Index,Finding Labels,Patient ID",
            "{x}.png,{ill},{p}",
            ("Mass", "No Finding"),
            place="images_{eye}/images/{x}.png",
        ),
        "labels.csv",
    ),
    (
        "images and masks of the same names",
        both(rows("image,label", "{x}.png,{ill}"), put("masks/{x}.png")),
        "labels.csv",
    ),
    ("masks beside the images (BUSI)", both(put("{ill}/{ill} ({n}).png"), put("{ill}/{ill} ({n})_mask.png")), "."),
    ("class/images, class/masks", both(put("{ill}/images/{x}.png"), put("{ill}/masks/{x}.png")), "."),
    ("classes in the folders of patients", put("P{id}/{ill}/{x}.png"), "."),
    ("classes in left/ and right/", put("{eye}/{ill}/{x}.png"), "."),
    ("patients in the folders of classes", put("{ill}/P{p}/{x}.png"), ". --patient-pattern folder"),
    (
        "splits `Training_Set` and `Test Images`",
        put(lambda n, x: f"{('Training_Set', 'Test Images')[n % 2]}/{ill(n)}/{x}.png"),
        ".",
    ),
    ("classes called 0_normal and 1_PM", put(lambda n, x: f"{('0_normal', '1_PM')[ILL[n]]}/{x}.png"), "."),
    (
        "APTOS's whole folder",
        both(
            rows("id_code,diagnosis", "{x},{grade}", name="train.csv", place="train_images/{x}.png"),
            text("sample_submission.csv", "id_code,diagnosis\na,0\n"),
            text("test.csv", "id_code\na\n"),
        ),
        ". --positive 2,3,4",
    ),
    (
        "Roboflow: _classes.csv in each split's folder",
        both(
            *(
                rows(
                    "filename, Normal, PM",
                    "{x}.png, {zero}, {one}",
                    name=f"{part}/_classes.csv",
                    place=part + "/{x}.png",
                )
                for part in ("train", "valid")
            )
        ),
        ".",
    ),
    (
        "the hub's metadata.jsonl in each split's folder",
        both(
            *(
                rows(
                    "",
                    '{{"file_name": "{x}.png", "label": {one}}}',
                    name=f"{part}/metadata.jsonl",
                    place=part + "/{x}.png",
                )
                for part in ("train", "test")
            )
        ),
        ".",
    ),
    ("one-hot columns without options", rows("image,normal,PM", "{x}.png,{zero},{one}"), "labels.csv"),
    (
        "RFMiD: a column a disease",
        rows(
            "ID,Disease_Risk,DR,ARMD", "{n},{one},{one},0", name="RFMiD_Training_Labels.csv", place="Training/{n}.png"
        ),
        "RFMiD_Training_Labels.csv",
    ),
    ("a column an eye, without options", BY_EYE, "labels.csv"),
    (
        "a label an eye",
        by_patient(
            "patient,left_image,right_image,left_label,right_label", "{p},{p}_left.png,{p}_right.png,{one},{two}"
        ),
        "labels.csv --path-column left_image --path-column right_image"
        " --label-column left_label --label-column right_label",
    ),
    (
        "several images in one cell",
        by_patient("patient,images,label", '{p},"{p}_left.png, {p}_right.png",{one}'),
        "labels.csv",
    ),
    ("a column `eye`, and one of unknown name", rows("image,eye,patient,PM", "{x}.png,{eye},{p},{one}"), "labels.csv"),
    ("`is_train`", rows("image,label,is_train", lambda n, x: f"{x}.png,{ill(n)},{n % 4 != 3}"), "labels.csv"),
    (
        "a JSON list",
        both(
            put("images/{x}.png"),
            text("labels.json", json.dumps([{"image": f"{x}.png", "label": ill(n)} for n, x in enumerate(NAMES)])),
        ),
        "labels.json",
    ),
    (
        "JSON, a label for each name",
        both(put("images/{x}.png"), text("labels.json", json.dumps({f"{x}.png": ILL[n] for n, x in enumerate(NAMES)}))),
        "labels.json",
    ),
    ("one image listed twice", rows("image,label", "{x}.png,{ill}\n{x}.png,{ill}"), "labels.csv"),
    (
        "a row without a file name",
        rows("image,label", lambda n, x: f"{'' if n == 5 else x + '.png'},{ill(n)}"),
        "labels.csv",
    ),
    (
        "a zip of a folder with a table",
        packed("set.zip", rows("image,label", "{x}.png,{ill}", name="mine/labels.csv", place="mine/images/{x}.png")),
        "set.zip",
    ),
    ("a zip in a zip", packed("outer.zip", packed("inner.zip", classes)), "outer.zip"),
    ("a folder of train.zip and test.zip", both(packed("train.zip", classes), packed("test.zip", classes)), "."),
    (
        "EyePACS: trainLabels.csv and train.zip",
        both(
            packed("train.zip", put("train/{x}.png")),
            text("trainLabels.csv", lines("image,level", lambda n, x: f"{x},{GRADES[n]}")),
        ),
        "trainLabels.csv --positive 2,3,4 --patient-pattern left-right",
    ),
    ("a tar.gz in a zip", packed("outer.zip", packed("inner.tar.gz", classes)), "outer.zip"),
    ("an .npz in a zip", packed("set.zip", npz("pneumoniamnist.npz", 2, (28, 28))), "set.zip"),
    ("an .h5 in a zip", packed("set.zip", h5("set.h5", images=PIXELS, labels=LABELS)), "set.zip"),
    ("a zip with names in GBK", chinese_zip, "set.zip"),
    ("an .npz of arr_0 and arr_1", arrays("set.npz", arr_0=PIXELS, arr_1=LABELS), "set.npz"),
    ("an .npz of data and target", arrays("set.npz", data=PIXELS, target=LABELS), "set.npz"),
    (
        "an .npz of trainX, trainY",
        arrays(
            "set.npz",
            **{
                f"{part}{end}": values[half]
                for part, half in HALVES.items()
                for end, values in (("X", PIXELS), ("Y", LABELS))
            },
        ),
        "set.npz",
    ),
    (
        "an .npz of images as Python objects",
        arrays("set.npz", images=np.array([PIXELS[0], PIXELS[1, :4]], dtype=object), labels=LABELS[:2]),
        "set.npz",
    ),
    (
        "an .npz for each split",
        both(*(arrays(f"{part}.npz", images=PIXELS[half], labels=LABELS[half]) for part, half in HALVES.items())),
        ".",
    ),
    (
        "x_train.npy and y_train.npy",
        lambda root: (np.save(root / "x_train.npy", PIXELS), np.save(root / "y_train.npy", LABELS), None)[2],
        ".",
    ),
    ("an .h5 of x and y", h5("set.h5", x=PIXELS, y=LABELS), "set.h5"),
    (
        "an .h5 of groups",
        h5("set.h5", train__images=PIXELS, train__labels=LABELS, test__images=PIXELS, test__labels=LABELS),
        "set.h5",
    ),
    ("WebDataset's shards", both(shard("train-000000.tar"), shard("train-000001.tar"), shard("val-000000.tar")), "."),
    (
        "a text file beside each image",
        both(put("{x}.png"), *(text(f"{x}.txt", ill(n)) for n, x in enumerate(NAMES))),
        ".",
    ),
]


def printed(case: Make, options: str, code: Path | None = None) -> str:
    """The lines that tell how the data were read, or the error, of the command in a new folder with the case.

    Args:
        code: a checkout of another version, whose command runs in a process of its own.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "here"
        root.mkdir()
        case(root)
        arguments = ["data", "split", *shlex.split(options), "--output", "../split.csv"]
        if code is None:
            with in_folder(root):
                told = CliRunner().invoke(app, arguments).stderr
        else:
            environment = os.environ | {"PYTHONPATH": str(code), "PMTRAIN_CACHE": str(Path(scratch) / "cache")}
            command = [sys.executable, "-m", "pmtrain", *arguments]
            told = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True).stderr
    told = told.replace(str(root.resolve()), "here").replace(str(root), "here")
    return "\n".join(line for line in told.splitlines() if not line.startswith(("wrote", "warning: 24 of 24")))


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def cell(text: str) -> str:
    """At most eight lines, without the list of layouts, as a cell of a Markdown table."""
    text = re.sub(r"\n?(hint: )?the layouts are.*", "", text, flags=re.DOTALL)
    shown = [line.strip().replace("|", "\\|").replace("<", "&lt;") for line in text.splitlines()]
    return "<br>".join(shown[:8]) + "<br>..." * (len(shown) > 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another version, for a column of its output")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="cases whose names contain one of them")
    options = parser.parse_args()
    heads = ["case", "`pmtrain data split` ...", "prints", *(["printed before"] if options.before else [])]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, make, arguments in CASES:
        if any(word.lower() in name.lower() for word in options.only):
            shown = [cell(printed(make, arguments))]
            if options.before:
                shown.append(cell(printed(make, arguments, options.before.resolve())))
            print(f"| {name} | `{arguments}` | {' | '.join(shown)} |".replace("`|`", "`\\|`"), flush=True)
            say(f"{name}: {shown[0][:100]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
