"""A table with a row per image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from tests.reading import listed, refusal, workbook, write


@pytest.fixture
def images(tmp_path, touch) -> Path:
    return touch(tmp_path, "eyes/1.jpg", "eyes/2 b.jpg", "eyes/三.jpg", "eyes/4,4.jpg")


@pytest.mark.parametrize(
    ("table", "encoding"),
    [
        ('path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\neyes/三.jpg,0\n"eyes/4,4.jpg",1\n', "utf-8"),
        ("Label;Image\r\n0;eyes/1.jpg\r\n1; eyes\\2 b.jpg\r\n0;eyes/三.jpg\r\n1;eyes/4,4.jpg\r\n", "utf-8-sig"),
        (
            "FILE_NAME\tClass\tage\neyes/1.jpg\t0\t60\neyes/2 b.jpg\t1\t\neyes/三.jpg\t0\neyes/4,4.jpg\t1\t1",
            "utf-8",
        ),
    ],
    ids=["commas", "semicolons", "tabs"],
)
def test_tables(images, table, encoding):
    path = write(images / "table.csv", table, encoding)
    for data in (path, images):
        dataset = read_dataset(data)
        assert listed(dataset) == {
            "eyes/1.jpg": (None, 0),
            "eyes/2 b.jpg": (None, 1),
            "eyes/三.jpg": (None, 0),
            "eyes/4,4.jpg": (None, 1),
        }
        assert (dataset.layout, dataset.root) == ("csv", images)


def test_other_columns_of_a_table_are_kept_as_they_are(images):
    table = write(
        images / "list.csv",
        "Sex, path ,label,eye side\nf,eyes/1.jpg,0,left\n,eyes/2 b.jpg,1, right\nm,eyes/三.jpg,0\n",
    )
    assert [sample.columns for sample in read_dataset(table).samples] == [
        (("Sex", "f"), ("eye side", "left")),
        (("Sex", ""), ("eye side", "right")),
        (("Sex", "m"), ("eye side", "")),
    ]


def test_splits_and_patients_of_a_table(images):
    table = "file,class,Set,Patient ID\neyes/1.jpg,ok,Train,x\neyes/2 b.jpg,ill,TRAINING,x\neyes/三.jpg,ok,valid,y\n"
    path = write(images / "t.csv", table + '"eyes/4,4.jpg",ill,val,\n')
    dataset = read_dataset(path, positive="ill")
    assert [(sample.split, sample.patient) for sample in dataset.samples] == [
        ("train", "x"),
        ("train", "x"),
        ("val", "y"),
        ("val", ""),
    ]


def test_absolute_paths_in_a_table(images, tmp_path):
    path = write(tmp_path / "elsewhere" / "t.csv", f"path,label\n{images}/eyes/1.jpg,1\n../eyes/2 b.jpg,0\n")
    assert listed(read_dataset(path)) == {"../eyes/1.jpg": (None, 1), "../eyes/2 b.jpg": (None, 0)}


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("path,label\neyes/1.jpg,0\neyes/9.jpg,1\n", ["eyes/9.jpg (line 3)"]),
        ("path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\neyes/1.jpg,1\n", ["line 4", "1.jpg", "line 2", "two labels"]),
        ("path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\neyes/../eyes/1.jpg,0\n", ["line 4", "both times"]),
        ("path,label\neyes/1.jpg,0\n\neyes/2 b.jpg,\n", ["line 4", "label is empty"]),
        ("path,label,split\neyes/1.jpg,0,train\neyes/2 b.jpg,1,fold 3\n", ["line 3", "'fold 3'"]),
        ("path,label,split\neyes/1.jpg,0,train\neyes/2 b.jpg,1,\n", ["line 3", "split is empty"]),
        ("path,label\neyes/1.jpg,0\neyes/4,4.jpg,1\n", ["line 3", "3 cells", "quotes"]),
        ("path,label\neyes/1.jpg\n", ["line 2", "1 cells"]),
        ("path,label\n", ["no images"]),
        ("path,label\neyes/1.jpg,0\n", ["1 class,", "0 (1 images)"]),
        ("path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\neyes/三.jpg,2\n", ["3 classes"]),
        (
            "path,label,target\neyes/1.jpg,0,0\n",
            ["more than one column", "--label-column 'label' or --label-column 'target'"],
        ),
        ("path,grade\neyes/1.jpg,0\n", ["no column for the label", "path, grade"]),
        ("", ["no column for the path"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(images, table, named):
    message = refusal(write(images / "t.csv", table), data_format="csv")
    assert all(word in message for word in named), message


def test_a_binary_table_is_refused(images):
    (images / "t.csv").write_bytes(b"path,label\na\0b.jpg,0\n\0\0")
    refusal(images / "t.csv")


def test_two_tables_in_a_folder_are_told_apart_by_naming_them(images):
    train = write(images / "train.csv", "path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\n")
    val = write(images / "val.csv", 'path,label\neyes/三.jpg,0\n"eyes/4,4.jpg",1\n')
    assert "train.csv, val.csv" in refusal(images)
    dataset = read_dataset(train, val_data=val)
    assert Counter(sample.split for sample in dataset.samples) == {"train": 2, "val": 2}


def test_columns_by_options(images):
    table = write(
        images / "t.csv",
        "path,file name,label,grade,fold,Eye of\nx,eyes/1.jpg,a,0,train,p1\nx,eyes/2 b.jpg,a,3,val,p2\n",
    )
    columns = TableOptions(path_column="file name", label_column="GRADE", patient_column="eye_of", split_column="fold")
    dataset = read_dataset(table, columns=columns)
    assert listed(dataset) == {"eyes/1.jpg": ("train", 0), "eyes/2 b.jpg": ("val", 1)}
    assert [sample.patient for sample in dataset.samples] == ["p1", "p2"]
    assert dataset.samples[0].columns == (("path", "x"), ("label", "a"))
    assert listed(read_dataset(images, columns=columns)) == listed(dataset)  # the table of a folder is found by them


def test_a_column_that_is_named_is_taken_for_nothing_else(images):
    table = write(images / "t.csv", "path,set,patient\neyes/1.jpg,a,a\neyes/2 b.jpg,b,b\n")
    dataset = read_dataset(table, positive="b", columns=TableOptions(label_column="set", patient_column=""))
    assert listed(dataset) == {"eyes/1.jpg": (None, 0), "eyes/2 b.jpg": (None, 1)}
    assert dataset.samples[0].columns == (("patient", "a"),)


def test_no_column_at_all_for_the_split(images):
    table = write(images / "t.csv", "path,label,set\neyes/1.jpg,0,Beijing\neyes/2 b.jpg,1,Wuhan\n")
    assert '--split-column ""' in refusal(table)
    dataset = read_dataset(table, columns=TableOptions(split_column=""))
    assert [sample.columns for sample in dataset.samples] == [(("set", "Beijing"),), (("set", "Wuhan"),)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"label_column": "grad"}, ["--label-column 'grad'", "did you mean 'grade'?"]),
        ({"path_column": "zzz"}, ["--path-column 'zzz'", "it has image, label, grade, grade"]),
        ({"label_column": "grade"}, ["more than one column may be the label", "rename"]),
        ({"path_column": ""}, ["--path-column ''"]),
        ({"root": Path("nowhere")}, ["eyes/1.jpg (line 2)", "nowhere", "--root"]),
    ],
)
def test_options_that_do_not_fit_a_table_are_refused(images, options, named):
    table = write(images / "t.csv", "image,label,grade,grade\neyes/1.jpg,0,0,1\neyes/2 b.jpg,1,1,2\n")
    message = refusal(table, columns=TableOptions(**options))
    assert all(word in message for word in named), message


def test_options_of_tables_are_refused_elsewhere(tmp_path, touch):
    touch(tmp_path, "no/1.jpg", "yes/1.jpg")
    message = refusal(tmp_path, columns=TableOptions(label_column="grade"))
    assert "--label-column" in message and "folder layout" in message


def test_paths_below_another_root(images, tmp_path):
    table = write(tmp_path / "lists/t.csv", "path,label\n1.jpg,0\n2 b.jpg,1\n")
    dataset = read_dataset(table, columns=TableOptions(root=images / "eyes"))
    assert listed(dataset) == {"1.jpg": (None, 0), "2 b.jpg": (None, 1)}
    assert "--root FOLDER" in refusal(table)


def test_paths_without_a_suffix(images, touch):
    touch(images, "eyes/1.2.840.jpeg", "eyes/5.png", "eyes/5.txt", "eyes/6.jpg", "eyes/6.png", "eyes/7.txt")
    table = write(images / "t.csv", "image,label\neyes\\1,0\neyes/1.2.840,1\neyes/5,0\neyes/三,1\n")
    dataset = read_dataset(table)
    assert list(listed(dataset)) == ["eyes/1.jpg", "eyes/1.2.840.jpeg", "eyes/5.png", "eyes/三.jpg"]
    assert "4 paths without a suffix" in dataset.describe()
    write(table, "image,label\neyes/1,0\neyes/6,1\n")
    assert "line 3" in refusal(table) and "6.jpg" in refusal(table) and "6.png" in refusal(table)
    write(table, "image,label\neyes/1,0\neyes/7,1\ngone/8,1\n")
    assert "eyes/7 (line 3), gone/8 (line 4)" in refusal(table)
    write(table, "image,label\neyes/1,0\neyes/1.jpg,1\n")
    assert "two labels" in refusal(table)


def test_a_table_as_excel_saves_it_in_china(images):
    table = write(images / "表.csv", "文件,label,医院\r\neyes/1.jpg,正常,协和\r\neyes/三.jpg,近视,同仁\r\n", "gbk")
    dataset = read_dataset(table, positive="近视", columns=TableOptions(path_column="文件"))
    assert listed(dataset) == {"eyes/1.jpg": (None, 0), "eyes/三.jpg": (None, 1)}
    assert dataset.samples[0].columns == (("医院", "协和"),)
    assert "表.csv isn't UTF-8: it was read as GB18030" in dataset.describe()
    write(table, "file,label\neyes/1.jpg,正常\neyes/四.jpg,近视\n", "gbk")
    assert "eyes/四.jpg (line 3)" in refusal(table) and "GB18030" in refusal(table)


def test_excel_files(images):
    rows = [("image", "grade", "patient", "seen"), ("eyes/1.jpg", 0, 17.0, True), ("eyes/2 b.jpg", 2.0, None, None)]
    table = workbook(images / "t.xlsx", [*rows, (None, None), ("eyes/三", 1, "x")], [("other",)])
    dataset = read_dataset(table, positive="1,2", columns=TableOptions(label_column="grade"))
    assert listed(dataset) == {"eyes/1.jpg": (None, 0), "eyes/2 b.jpg": (None, 1), "eyes/三.jpg": (None, 1)}
    assert [sample.patient for sample in dataset.samples] == ["17", "", "x"]
    assert "sheet 'Tabelle1' was read, not 'Tabelle2'" in dataset.describe()
    assert dataset.classes == ("0", "1/2") and dataset.layout == "csv"
    found = read_dataset(images, positive="1,2", columns=TableOptions(label_column="grade"))
    assert listed(found) == listed(dataset)


def test_an_empty_label_in_an_excel_file(images):
    table = workbook(images / "t.xlsx", [("path", "label", "n"), ("eyes/1.jpg", 0, 1), ("eyes/2 b.jpg",)])
    assert f"{table}, line 3: the label is empty" in refusal(table)


def test_a_third_label_is_told_with_its_line(images):
    table = write(images / "t.csv", "path,label\neyes/1.jpg,ill\neyes/2 b.jpg,normal\neyes/三.jpg,norml\n")
    message = refusal(table, positive="ill")
    assert "3 classes" in message and "norml (1 images, first on line 4)" in message and "--positive" in message


def test_images_drawn_by_a_program_say_so_in_any_list(tmp_path, touch):
    touch(tmp_path, "drawn/SYNTHETIC.md", "drawn/train/no/1.jpg", "drawn/train/no/2.jpg")
    table = write(tmp_path / "lists/t.csv", "path,label\n../drawn/train/no/1.jpg,0\n../drawn/train/no/2.jpg,1\n")
    assert read_dataset(table).synthetic
