"""The commands of docs/data.md for public data sets, on small copies of their layouts with other, empty files."""

from __future__ import annotations

import zipfile

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from tests.reading import workbook, write


def read(data, *, expected, patients=0, **options):
    """Read a data set and compare the positive images with those that are known to be."""
    found = read_dataset(data, **options)
    assert {sample.path.stem for sample in found.samples if sample.label} == expected
    assert len({sample.patient for sample in found.samples if sample.patient}) == patients
    return len(found.samples)


def test_refuge(tmp_path, touch):
    touch(tmp_path / "Training400", "Glaucoma/g0001.jpg", "Non-Glaucoma/n0001.jpg", "Non-Glaucoma/n0002.jpg")
    assert read(tmp_path / "Training400", positive="Glaucoma", expected={"g0001"}) == 3


def test_odir(tmp_path, touch):
    root = touch(
        tmp_path / "ODIR-5K_Training_Dataset", *(f"{n}_{eye}.jpg" for n in (0, 1) for eye in ("left", "right"))
    )
    names = ("Left-Fundus", "Right-Fundus")
    head = (
        "ID",
        "Patient Age",
        "Patient Sex",
        *names,
        "Left-Diagnostic Keywords",
        "Right-Diagnostic Keywords",
        *"NDGCAHMO",
    )
    rows = [(n, 60, "Male", f"{n}_left.jpg", f"{n}_right.jpg", "a", "b", *([0] * 6), n, 0) for n in (0, 1)]
    table = workbook(tmp_path / "ODIR-5K_Training_Annotations.xlsx", [head, *rows])
    columns = TableOptions(root=root, path_column=names, label_column=("M",))
    assert read(table, columns=columns, expected={"1_left", "1_right"}, patients=2) == 4


@pytest.mark.parametrize("packed", [False, True])
def test_aptos(tmp_path, touch, packed):
    touch(tmp_path / "train_images", "000c1434d8d7.png", "001639a390f0.png")
    table = write(tmp_path / "train.csv", "id_code,diagnosis\n000c1434d8d7,2\n001639a390f0,0\n")
    root = tmp_path / "train_images"
    if packed:
        root = tmp_path / "train_images.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for path in (tmp_path / "train_images").iterdir():
                archive.write(path, path.name)
    assert read(table, columns=TableOptions(root=root), positive="2,3,4", expected={"000c1434d8d7"}) == 2


def test_eyepacs(tmp_path, touch):
    touch(tmp_path / "train", *(f"{n}_{eye}.jpeg" for n in (10, 13) for eye in ("left", "right")))
    table = write(tmp_path / "trainLabels.csv", "image,level\n10_left,0\n10_right,0\n13_left,2\n13_right,4\n")
    options = {"columns": TableOptions(root=tmp_path / "train"), "positive": "2,3,4", "patient_pattern": "left-right"}
    assert read(table, expected={"13_left", "13_right"}, patients=2, **options) == 4


def test_messidor_2(tmp_path, touch):
    touch(tmp_path / "IMAGES", "20051020_43808_0100_PP.png", "IM0001.jpg", "IM0002.jpg")
    table = write(
        tmp_path / "messidor_data.csv",
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
        "20051020_43808_0100_PP.png,0,0,1\nIM0001.jpg,2,0,1\nIM0002.jpg,,,0\n",
    )
    columns = TableOptions(
        root=tmp_path / "IMAGES", label_column=("adjudicated_dr_grade",), skip_missing=True, blank_labels=True
    )
    assert read(table, columns=columns, positive="2,3,4", exclude="", expected={"IM0001"}) == 2


def test_idrid(tmp_path, touch):
    root = touch(tmp_path / "1. Original Images/a. Training Set", "IDRiD_001.jpg", "IDRiD_002.jpg")
    table = write(
        tmp_path / "2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv",
        "Image name,Retinopathy grade,Risk of macular edema ,,,\nIDRiD_001,3,2,,,\nIDRiD_002,0,0,,,\n",
    )
    columns = TableOptions(root=root, label_column=("Retinopathy grade",))
    assert read(table, columns=columns, positive="2,3,4", expected={"IDRiD_001"}) == 2


def test_breakhis(tmp_path, touch):
    breast = "BreaKHis_v1/histology_slides/breast"
    touch(
        tmp_path,
        f"{breast}/benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png",
        f"{breast}/malignant/SOB/ductal_carcinoma/SOB_M_DC_14-2523/40X/SOB_M_DC-14-2523-40-001.png",
        f"{breast}/malignant/SOB/ductal_carcinoma/SOB_M_DC_14-2523/400X/SOB_M_DC-14-2523-400-001.png",
    )
    expected = {"SOB_M_DC-14-2523-40-001", "SOB_M_DC-14-2523-400-001"}
    assert read(tmp_path / "BreaKHis_v1", patient_pattern="breakhis", expected=expected, patients=2) == 3


def test_lc25000(tmp_path, touch):
    names = ("lung_n/lungn1.jpeg", "lung_aca/lungaca1.jpeg", "lung_scc/lungscc1.jpeg")
    lungs = touch(tmp_path / "lung_image_sets", *names)
    assert read(lungs, positive="lung_aca,lung_scc", expected={"lungaca1", "lungscc1"}) == 3
    colon = touch(tmp_path / "colon_image_sets", "colon_n/colonn1.jpeg", "colon_aca/colonca1.jpeg")
    assert read(colon, positive="colon_aca", expected={"colonca1"}) == 2


def test_chest_xrays(tmp_path, touch):
    touch(tmp_path, "train/NORMAL/IM-0115-0001.jpeg", "train/PNEUMONIA/person1_bacteria_1.jpeg")
    touch(tmp_path, "val/NORMAL/NORMAL2-IM-1427-0001.jpeg", "val/PNEUMONIA/person1946_bacteria_4874.jpeg")
    expected = {"person1_bacteria_1", "person1946_bacteria_4874"}
    assert read(tmp_path, patient_pattern="chest-xray", expected=expected, patients=4) == 4
