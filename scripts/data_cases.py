"""What `pmtrain data split` makes of tables, folders and archives in the shapes that people have.

  python scripts/data_cases.py                            a Markdown table: the case, the command, what it prints
  python scripts/data_cases.py --before OTHER_CHECKOUT    and what another version's command prints
  python scripts/data_cases.py --only parquet zip         the cases whose names contain one of these words

The images are 24 SYNTHETIC files of 12 patients, both eyes of each. `data split` reads the listing and opens no image.
"""

from __future__ import annotations

import argparse
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

ROOT = Path(__file__).parents[1]
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


def excel(root: Path) -> None:
    import openpyxl

    images(root / "images")
    book = openpyxl.Workbook()
    book.active.title = "Read me"
    book.active.append(["Clinic of eyes"])
    sheet = book.create_sheet("Labels")
    sheet.append(["Bild", "Befund", "Patient"])
    for number, name in enumerate(NAMES):
        sheet.append([f"{name}.png", "AMD" if ILL[number] else "gesund", number // 2])
    book.save(root / "labels.xlsx")


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


def nested(root: Path) -> None:
    for split in ("train", "val"):
        zipped(classes, name=f"{split}.zip")(root)
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        for split in ("train", "val"):
            archive.write(root / f"{split}.zip", f"{split}.zip")
            (root / f"{split}.zip").unlink()


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


def one_h5(root: Path) -> None:
    import h5py

    with h5py.File(root / "set.h5", "w") as file:
        file["images"] = np.zeros((24, 8, 8), np.uint8)
        file["labels"] = np.array([b"ill" if ill else b"normal" for ill in ILL])


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


def by_eye(root: Path) -> None:
    images(root / "images")
    rows = [
        f"{n},{50 + n},{n}_left.png,{n}_right.png,{'' if n % 2 else 'myopia'},{n % 2 ^ 1},{n % 2},{int(n % 3 == 0)}"
        for n in range(1, 13)
    ]
    (root / "odir.csv").write_text("\n".join(["ID,Age,Left-Fundus,Right-Fundus,Keywords,N,M,D", *rows]))


def ill(number: int, yes: str = "ill", no: str = "normal") -> str:
    return yes if ILL[number] else no


# Name, what to make, and the options after `pmtrain data split`.
CASES: list[tuple[str, Make, str]] = [
    (
        "APTOS: `id_code`, names without suffix",
        table(lines("id_code,diagnosis", lambda n, x: f"{x},{GRADES[n]}")),
        "labels.csv --positive 2,3,4",
    ),
    ("grades without --positive", table(lines("id_code,diagnosis", lambda n, x: f"{x},{GRADES[n]}")), "labels.csv"),
    (
        "ISIC: `isic_id`, `target`, patients",
        table(lines("isic_id,patient_id,target", lambda n, x: f"{x},P{n // 2},{ILL[n]}")),
        "labels.csv",
    ),
    (
        "RSNA: `patientId`, `Target`",
        table(lines("patientId,image_id,Target", lambda n, x: f"p{n // 2},{x},{ILL[n]}")),
        "labels.csv",
    ),
    ("no head, UTF-8 mark", table(lines("", lambda n, x: f"{x}.png,{ill(n)}"), encoding="utf-8-sig"), "labels.csv"),
    (
        "fastai: `is_valid`",
        table(lines("fname,labels,is_valid", lambda n, x: f"{x}.png,{ill(n, 'PM')},{n % 4 == 3}")),
        "labels.csv",
    ),
    (
        "German, Latin-1, semicolons, decimal commas",
        table(
            lines("Bilddatei;Diagnose;Visus", lambda n, x: f"{x}.png;{ill(n, 'erhöht', 'unauffällig')};0,{n % 10}"),
            encoding="latin-1",
        ),
        "labels.csv",
    ),
    (
        "French, UTF-8",
        table(lines("fichier,étiquette", lambda n, x: f"{x}.png,{ill(n, 'malade', 'sain')}")),
        "labels.csv",
    ),
    ("Spanish", table(lines("imagen,etiqueta", lambda n, x: f"{x}.png,{ill(n, 'glaucoma', 'sano')}")), "labels.csv"),
    (
        "Portuguese",
        table(lines("arquivo,rótulo", lambda n, x: f"{x}.png,{ill(n, 'doente', 'saudável')}")),
        "labels.csv",
    ),
    ("Italian", table(lines("immagine,etichetta", lambda n, x: f"{x}.png,{ill(n, 'malato', 'sano')}")), "labels.csv"),
    ("Japanese", table(lines("ファイル名,ラベル", lambda n, x: f"{x}.png,{ill(n, '緑内障', '正常')}")), "labels.csv"),
    ("Korean", table(lines("파일명,라벨", lambda n, x: f"{x}.png,{ill(n, '녹내장', '정상')}")), "labels.csv"),
    ("Russian", table(lines("файл,метка", lambda n, x: f"{x}.png,{ill(n, 'глаукома', 'норма')}")), "labels.csv"),
    (
        "Chinese, GB 18030",
        table(lines("图片名,诊断", lambda n, x: f"{x}.png,{ill(n, '青光眼', '正常')}"), encoding="gb18030"),
        "labels.csv",
    ),
    (
        "UTF-16 with tabs, as Excel saves Unicode text",
        table(lines("image\tlabel", lambda n, x: f"{x}.png\t{ill(n)}", "\r\n"), "labels.txt", "utf-16"),
        "labels.txt",
    ),
    ("pipes between cells", table(lines("image|label", lambda n, x: f"{x}.png|{ill(n)}")), "labels.csv"),
    ("Windows paths", table(lines("path,label", lambda n, x: f"images\\{x}.png,{ill(n)}", "\r\n")), "labels.csv"),
    (
        "absolute Windows paths of another machine",
        table(lines("path,label", lambda n, x: f"C:\\data\\images\\{x}.png,{ill(n)}")),
        "labels.csv",
    ),
    (
        "absolute Linux paths of another machine",
        table(lines("path,label", lambda n, x: f"/home/anna/images/{x}.png,{ill(n)}")),
        "labels.csv",
    ),
    ("paths that begin with ./", table(lines("path,label", lambda n, x: f"./images/{x}.png,{ill(n)}")), "labels.csv"),
    ("another suffix than the files'", table(lines("path,label", lambda n, x: f"{x}.jpg,{ill(n)}")), "labels.csv"),
    (
        "upper and lower case of names",
        table(lines("path,label", lambda n, x: f"{x.upper()}.PNG,{ill(n)}")),
        "labels.csv",
    ),
    (
        "`Yes`, `yes`, `NO`",
        table(
            lines(
                "image,glaucoma",
                lambda n, x: f"{x}.png,{('Yes', 'yes', 'YES ')[n % 3] if ILL[n] else ('NO', 'no')[n % 2]}",
            )
        ),
        "labels.csv",
    ),
    (
        "`1`, `1.0`, `01`",
        table(lines("image,label", lambda n, x: f"{x}.png,{('1', '1.0', '01')[n % 3] if ILL[n] else '0'}")),
        "labels.csv",
    ),
    ("TRUE and FALSE", table(lines("image,has_glaucoma", lambda n, x: f"{x}.png,{bool(ILL[n])}")), "labels.csv"),
    ("`+` and `-`", table(lines("image,label", lambda n, x: f"{x}.png,{ill(n, '+', '-')}")), "labels.csv"),
    (
        "negatives by other names",
        table(lines("image,label", lambda n, x: f"{x}.png,{ill(n, 'AMD', 'no finding')}")),
        "labels.csv",
    ),
    (
        "grades 0 against 2 and 3, the rest left out",
        table(lines("image,grade", lambda n, x: f"{x}.png,{(0, 1, 2, 3, -1, 'ungradable')[n % 6]}")),
        "labels.csv --positive 2,3 --negative 0",
    ),
    (
        "patients `1` and `001`",
        table(
            lines("image,patient,label", lambda n, x: f"{x}.png,{n // 2 + 1 if n % 2 else f'{n // 2 + 1:03}'},{ill(n)}")
        ),
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
        by_eye,
        "odir.csv --path-column Left-Fundus --path-column Right-Fundus --label-column M",
    ),
    (
        "a column a disease, one of them 1 (HAM10000, ISIC 2018)",
        table(lines("image,MEL,NV,BCC", lambda n, x: f"{x},{n % 3 == 0:.1f},{n % 3 == 1:.1f},{n % 3 == 2:.1f}")),
        "labels.csv --label-column MEL --label-column NV --label-column BCC --positive MEL",
    ),
    (
        "one of these columns",
        table(lines("image,MEL,NV,BCC", lambda n, x: f"{x},{n % 3 == 0:.1f},{n % 3 == 1:.1f},{n % 3 == 2:.1f}")),
        "labels.csv --label-column MEL",
    ),
    (
        "several diseases in one cell (NIH chest X-rays)",
        table(
            lines(
                "Image Index,Finding Labels,Patient ID",
                lambda n, x: f"{x}.png,{'Effusion|Mass' if ILL[n] else 'No Finding'},{n // 2}",
            )
        ),
        "labels.csv",
    ),
    ("Excel, the second sheet", excel, "labels.xlsx --sheet Labels"),
    ("Excel, a first sheet without a table", excel, "labels.xlsx"),
    (
        "`image.path`, `split` with `validation`",
        table(
            lines("image.path,label,split", lambda n, x: f"{x}.png,{ill(n)},{'validation' if n % 4 == 3 else 'train'}")
        ),
        "labels.csv",
    ),
    (
        "splits `dev`, `eval`, `holdout`",
        table(lines("image,label,split", lambda n, x: f"{x}.png,{ill(n)},{('train', 'dev', 'holdout')[n % 3]}")),
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
        zipped(table(lines("image,label", lambda n, x: f"{x}.png,{ill(n)}"))),
        "set.zip",
    ),
    (
        "a table beside a zip of images",
        lambda root: (
            table(lines("image,label", lambda n, x: f"{x}.png,{ill(n)}"), folder="../unused")(root),
            zipped(images, name="images.zip")(root),
            None,
        )[2],
        "labels.csv --root images.zip",
    ),
    (".tar", tarred(classes, "set.tar", "w"), "set.tar"),
    (".tar.gz, one folder at the top", tarred(classes, "set.tar.gz", "w:gz", "set/"), "set.tar.gz"),
    (".tgz", tarred(classes, "set.tgz", "w:gz"), "set.tgz"),
    (".tar.bz2", tarred(classes, "set.tar.bz2", "w:bz2"), "set.tar.bz2"),
    (".tar.xz", tarred(classes, "set.tar.xz", "w:xz"), "set.tar.xz"),
    ("a zip of zips", nested, "all.zip"),
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
        lambda root: np.savez(
            root / "set.npz",
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
    ("one .h5 of images and labels", one_h5, "set.h5"),
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
    ("Turkish", table(lines("dosya,etiket", lambda n, x: f"{x}.png,{ill(n, 'hasta', 'sağlıklı')}")), "labels.csv"),
    ("Polish", table(lines("plik,etykieta", lambda n, x: f"{x}.png,{ill(n, 'chory', 'zdrowy')}")), "labels.csv"),
    ("Arabic", table(lines("الملف,التشخيص", lambda n, x: f"{x}.png,{ill(n, 'مريض', 'سليم')}")), "labels.csv"),
    (
        "Chinese splits and patients",
        table(
            lines(
                "图像,患者编号,标签,数据集",
                lambda n, x: f"{x}.png,{n // 2},{ill(n, '是', '否')},{('训练集', '验证集')[n % 4 == 3]}",
            )
        ),
        "labels.csv",
    ),
    (
        "UTF-16 without a mark",
        table(lines("image,label", lambda n, x: f"{x}.png,{ill(n)}"), encoding="utf-16-le"),
        "labels.csv",
    ),
    (
        "Shift JIS",
        table(lines("画像,診断", lambda n, x: f"{x}.png,{ill(n, '緑内障', '正常')}"), encoding="shift-jis"),
        "labels.csv",
    ),
    (
        "Big5",
        table(lines("圖片,診斷", lambda n, x: f"{x}.png,{ill(n, '青光眼', '正常')}"), encoding="big5"),
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
    ("an index column of pandas", table(lines(",image,label", lambda n, x: f"{n},{x}.png,{ill(n)}")), "labels.csv"),
    (
        "addresses of the web",
        table(lines("image_url,label", lambda n, x: f"https://example.org/a/{x}.png,{ill(n)}")),
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
    (
        "splits in their own tables: train.csv, val.csv",
        lambda root: (
            images(root / "images"),
            [
                (root / f"{part}.csv").write_text(
                    "image,label\n"
                    + "".join(f"{x}.png,{ill(n)}\n" for n, x in enumerate(NAMES) if (n % 4 == 3) == (part == "val"))
                )
                for part in ("train", "val")
            ],
            None,
        )[2],
        "train.csv --val-data val.csv",
    ),
    (
        "the folder with both tables",
        lambda root: (
            images(root / "images"),
            [
                (root / f"{part}.csv").write_text(
                    "image,label\n"
                    + "".join(f"{x}.png,{ill(n)}\n" for n, x in enumerate(NAMES) if (n % 4 == 3) == (part == "val"))
                )
                for part in ("train", "val")
            ],
            None,
        )[2],
        ".",
    ),
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
        lambda root: np.savez(
            root / "set.npz", train_images=np.zeros((12, 8, 8, 3), np.uint8), train_labels=np.eye(2)[np.arange(12) % 2]
        ),
        "set.npz",
    ),
    (
        "float images in an .npz",
        lambda root: np.savez(root / "set.npz", train_images=np.zeros((12, 8, 8, 3)), train_labels=np.arange(12) % 2),
        "set.npz",
    ),
    (
        "channels first in an .npz",
        lambda root: np.savez(
            root / "set.npz", train_images=np.zeros((12, 3, 8, 8), np.uint8), train_labels=np.arange(12) % 2
        ),
        "set.npz",
    ),
    (
        "Python objects in an .npz",
        lambda root: np.savez(
            root / "set.npz", train_images=np.zeros((12, 8, 8), np.uint8), train_labels=np.array(["a", None] * 6)
        ),
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
]


def printed(code: Path, case: Make, options: str) -> str:
    """The lines that tell how the data were read, or the error, of the command in a new folder with the case."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "here"
        root.mkdir()
        case(root)
        environment = os.environ | {
            "PYTHONPATH": str(code),
            "PMTRAIN_CACHE": str(Path(scratch) / "cache"),
            "COLUMNS": "200",
        }
        command = [sys.executable, "-m", "pmtrain", "data", "split", *shlex.split(options), "--output", "../split.csv"]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    told = done.stderr.replace(str(root.resolve()), "here").replace(str(root), "here")
    kept = [line for line in told.splitlines() if not line.startswith(("wrote", "warning: 24 of 24"))]
    return "\n".join(kept)


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
    versions = [ROOT, *([options.before.resolve()] if options.before else [])]
    out = io.StringIO()
    heads = ["case", "`pmtrain data split` ...", "prints", *(["printed before"] if options.before else [])]
    out.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for name, make, arguments in CASES:
        if any(word.lower() in name.lower() for word in options.only):
            cells = [cell(printed(code, make, arguments)) for code in versions]
            out.write(f"| {name} | `{arguments}` | {' | '.join(cells)} |\n".replace("`|`", "`\\|`"))
            print(f"{name}: {cells[0][:100]}", file=sys.stderr)
    print(out.getvalue(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
