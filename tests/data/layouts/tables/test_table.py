"""A table with a row per image."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from pmtrain.system.errors import PmtrainError
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
        ("path,age,sex\neyes/1.jpg,0,f\n", ["no label column", "path, age, sex"]),
        ("", ["no path column"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(images, table, named):
    message = refusal(write(images / "t.csv", table), data_format="csv")
    assert all(word in message for word in named), message


def test_a_binary_table_is_refused(images):
    (images / "t.csv").write_bytes(b"path,label\na\0b.jpg,0\n\0\0")
    refusal(images / "t.csv")


def test_two_tables_in_a_folder_are_its_splits_or_told_apart_by_naming_them(images):
    train = write(images / "train.csv", "path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\n")
    val = write(images / "val_labels.csv", 'path,label\neyes/三.jpg,0\n"eyes/4,4.jpg",1\n')
    splits = {"eyes/1.jpg": ("train", 0), "eyes/2 b.jpg": ("train", 1), "eyes/三.jpg": ("val", 0)}
    dataset = read_dataset(images)
    assert listed(dataset) == splits | {"eyes/4,4.jpg": ("val", 1)}
    assert "splits by table: train.csv is train, val_labels.csv is val" in dataset.notes
    assert listed(read_dataset(train, val_data=val)) == listed(dataset)
    write(images / "sample_submission.csv", "path,label\neyes/1.jpg,0\n")  # of a competition, with made-up labels
    assert listed(read_dataset(images)) == listed(dataset)
    write(images / "all.csv", "path,label\neyes/1.jpg,0\n")
    assert "all.csv, train.csv, val_labels.csv" in refusal(images)
    (images / "all.csv").unlink()
    write(val, "path,label\neyes/1.jpg,1\n")
    assert "train.csv and val_labels.csv both list" in refusal(images)


def test_columns_by_options(images):
    table = write(
        images / "t.csv",
        "path,file name,label,grade,fold,Eye of\nx,eyes/1.jpg,a,0,train,p1\nx,eyes/2 b.jpg,a,3,val,p2\n",
    )
    columns = TableOptions(
        path_column=["file name"], label_column=["GRADE"], patient_column="eye_of", split_column="fold"
    )
    dataset = read_dataset(table, columns=columns)
    assert listed(dataset) == {"eyes/1.jpg": ("train", 0), "eyes/2 b.jpg": ("val", 1)}
    assert [sample.patient for sample in dataset.samples] == ["p1", "p2"]
    assert dataset.samples[0].columns == (("path", "x"), ("label", "a"))
    assert listed(read_dataset(images, columns=columns)) == listed(dataset)  # the table of a folder is found by them


def test_a_column_that_is_named_is_taken_for_nothing_else(images):
    table = write(images / "t.csv", "path,set,patient\neyes/1.jpg,a,a\neyes/2 b.jpg,b,b\n")
    dataset = read_dataset(table, positive="b", columns=TableOptions(label_column=["set"], patient_column=""))
    assert listed(dataset) == {"eyes/1.jpg": (None, 0), "eyes/2 b.jpg": (None, 1)}
    assert dataset.samples[0].columns == (("patient", "a"),)


def test_no_column_at_all_for_the_split(images):
    table = write(images / "t.csv", "path,label,set\neyes/1.jpg,0,Beijing\neyes/2 b.jpg,1,Wuhan\n")
    assert '--split-column=""' in refusal(table)
    dataset = read_dataset(table, columns=TableOptions(split_column=""))
    assert [sample.columns for sample in dataset.samples] == [(("set", "Beijing"),), (("set", "Wuhan"),)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"label_column": ["grad"]}, ["--label-column 'grad'", "did you mean 'grade'?"]),
        ({"path_column": ["zzz"]}, ["--path-column 'zzz'", "it has image, label, grade, grade"]),
        ({"label_column": ["grade"]}, ["more than one column could be the label", "rename"]),
        ({"path_column": [""]}, ["--path-column ''"]),
        ({"root": Path("nowhere")}, ["eyes/1.jpg (line 2)", "nowhere", "--root"]),
    ],
)
def test_options_that_do_not_fit_a_table_are_refused(images, options, named):
    table = write(images / "t.csv", "image,label,grade,grade\neyes/1.jpg,0,0,1\neyes/2 b.jpg,1,1,2\n")
    message = refusal(table, columns=TableOptions(**options))
    assert all(word in message for word in named), message


def test_options_of_tables_are_refused_elsewhere(tmp_path, touch):
    touch(tmp_path, "no/1.jpg", "yes/1.jpg")
    message = refusal(tmp_path, columns=TableOptions(label_column=["grade"]))
    assert "--label-column" in message and "folder layout" in message


def test_paths_below_another_root(images, tmp_path):
    table = write(tmp_path / "other/t.csv", "path,label\n1.jpg,0\n2 b.jpg,1\n")
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
    dataset = read_dataset(table, positive="近视", columns=TableOptions(path_column=["文件"]))
    assert listed(dataset) == {"eyes/1.jpg": (None, 0), "eyes/三.jpg": (None, 1)}
    assert dataset.samples[0].columns == (("医院", "协和"),)
    assert "表.csv isn't UTF-8: it was read as GB18030" in dataset.describe()
    write(table, "file,label\neyes/1.jpg,正常\neyes/四.jpg,近视\n", "gbk")
    assert "eyes/四.jpg (line 3)" in refusal(table) and "GB18030" in refusal(table)


def test_excel_files(images):
    rows = [("image", "grade", "patient", "seen"), ("eyes/1.jpg", 0, 17.0, True), ("eyes/2 b.jpg", 2.0, None, None)]
    table = workbook(images / "t.xlsx", [*rows, (None, None), ("eyes/三", 1, "x")], [("other",)])
    dataset = read_dataset(table, positive="1,2", columns=TableOptions(label_column=["grade"]))
    assert listed(dataset) == {"eyes/1.jpg": (None, 0), "eyes/2 b.jpg": (None, 1), "eyes/三.jpg": (None, 1)}
    assert [sample.patient for sample in dataset.samples] == ["17", "", "x"]
    assert "sheet 'Tabelle1' was read, not 'Tabelle2'" in dataset.describe()
    assert dataset.classes == ("0", "1/2") and dataset.layout == "csv"
    found = read_dataset(images, positive="1,2", columns=TableOptions(label_column=["grade"]))
    assert listed(found) == listed(dataset)


def test_an_empty_label_in_an_excel_file(images):
    table = workbook(images / "t.xlsx", [("path", "label", "n"), ("eyes/1.jpg", 0, 1), ("eyes/2 b.jpg",)])
    assert f"{table}, line 3: the label is empty" in refusal(table)


def test_a_third_label_is_told_with_its_line(images):
    table = write(images / "t.csv", "path,label\neyes/1.jpg,ill\neyes/2 b.jpg,normal\neyes/三.jpg,norml\n")
    message = refusal(table)
    assert "3 classes" in message and "norml (1 images, first on line 4)" in message and "--positive" in message


def test_images_drawn_by_a_program_say_so_in_any_list(tmp_path, touch):
    touch(tmp_path, "drawn/SYNTHETIC.md", "drawn/train/no/1.jpg", "drawn/train/no/2.jpg")
    table = write(tmp_path / "lists/t.csv", "path,label\n../drawn/train/no/1.jpg,0\n../drawn/train/no/2.jpg,1\n")
    assert read_dataset(table).synthetic


def names(dataset) -> list[str]:
    return [dataset.name_of(sample) for sample in dataset.samples]


@pytest.fixture
def pairs(tmp_path, touch) -> Path:
    """Both eyes of three patients."""
    return touch(tmp_path, *(f"{number}_{side}.jpg" for number in (1, 2, 3) for side in ("left", "right")))


@pytest.mark.parametrize(
    ("header", "path", "label"),
    [
        ("id_code,diagnosis", "{}", "{}"),
        ("isic_id,patient_id,target", "{}", "7,{}"),
        ("Bild;Diagnose", "{}.jpg", "{}"),
        ("图片,诊断", "{}.jpg", "{}"),
        ("which.one,x,has_disease", "{}.jpg", "9,{}"),
        ("id,image", "3,{}.jpg", "{}"),  # an id that names no file
        ("image,photo,level", "x,{}.jpg", "{}"),  # a column called image, yet another names the files
        ("image.path,label", "{}.jpg", "{}"),
    ],
)
def test_columns_are_found_by_name_or_by_the_files_that_they_name(pairs, header, path, label):
    mark = ";" if ";" in header else ","
    lines = [mark.join((path.format(name), label.format(int(name > "2")))) for name in ("1_left", "2_left", "3_right")]
    if header == "id,image":
        header += ",label"
    dataset = read_dataset(write(pairs / "t.csv", "\n".join([header, *lines]) + "\n"))
    assert listed(dataset) == {"1_left.jpg": (None, 0), "2_left.jpg": (None, 1), "3_right.jpg": (None, 1)}


def test_a_label_goes_before_a_grade(pairs):
    table = write(pairs / "t.csv", "file,label,grade\n1_left.jpg,0,1\n2_left.jpg,1,3\n")
    assert read_dataset(table).samples[1].columns == (("grade", "3"),)


@pytest.mark.parametrize(
    ("column", "cells", "splits"),
    [
        ("is_valid", ("False", "True", "False"), ["train", "val", "train"]),
        ("isValid", ("0", "1", "0"), ["train", "val", "train"]),
        ("fold", ("train", "test", "train"), ["train", "test", "train"]),
        ("fold", ("0", "1", "2"), [None, None, None]),  # of a cross-validation
    ],
)
def test_splits_by_other_names(pairs, column, cells, splits):
    lines = [f"{number}_left.jpg,{int(number > 1)},{cell}" for number, cell in enumerate(cells, 1)]
    dataset = read_dataset(write(pairs / "t.csv", "\n".join([f"fname,labels,{column}", *lines]) + "\n"))
    assert [sample.split for sample in dataset.samples] == splits


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_without_a_header(pairs, encoding):
    table = write(pairs / "t.csv", "1_left.jpg,normal\n1_right.jpg,normal\n2_left.jpg,myopia\n", encoding)
    dataset = read_dataset(table)
    assert listed(dataset) == {"1_left.jpg": (None, 0), "1_right.jpg": (None, 0), "2_left.jpg": (None, 1)}
    assert "t.csv has no header" in dataset.describe()
    write(table, "1_left.jpg,m,normal\n2_left.jpg,f,myopia\n", encoding)
    assert "no label column among 1, 2, 3" in refusal(table)
    assert read_dataset(table, columns=TableOptions(label_column=["3"])).samples[1].columns == (("2", "f"),)
    write(table, "1_left.jpg,normal\n1_left.jpg,myopia\n", encoding)
    assert "line 2: 1_left.jpg is already listed on line 1" in refusal(table)


def test_files_in_the_one_folder_beside_a_table(tmp_path, touch):
    touch(tmp_path, "train_images/1.png", "train_images/2.png", "test_images/9.png")
    table = write(tmp_path / "train.csv", "id_code,diagnosis\n1,0\n2,1\n")
    dataset = read_dataset(table)
    assert names(dataset) == ["1.png", "2.png"] and dataset.root == tmp_path / "train_images"
    assert "paths are relative to train_images/" in dataset.describe()
    touch(tmp_path, "small/1.png", "small/2.png")
    assert "--root FOLDER" in refusal(table)


def test_rows_whose_file_is_missing(pairs):
    table = write(pairs / "t.csv", "image,label\n1_left.jpg,0\n2_left.jpg,1\nTotal,24\n")
    assert "Total (line 4)" in refusal(table) and "--skip-missing" in refusal(table)
    dataset = read_dataset(table, columns=TableOptions(skip_missing=True))
    assert names(dataset) == ["1_left.jpg", "2_left.jpg"]
    assert "left out 1 rows whose file doesn't exist: Total (line 4)" in dataset.describe()


ODIR = "ID,Left-Fundus,Right-Fundus,left says,right says,N,D,M\n"


def test_a_row_a_patient(pairs):
    table = write(
        pairs / "odir.csv",
        ODIR
        + "1,1_left.jpg,1_right.jpg,ok,ok,1,0,0\n2,2_left.jpg,2_right.jpg,ok,ill,0,0,1\n3,3_left.jpg,,ill,,0,0,1\n",
    )
    eyes = ["Left-Fundus", "Right-Fundus"]

    def read(*labels: str, **options):
        dataset = read_dataset(table, columns=TableOptions(path_column=eyes, label_column=labels), **options)
        return dataset, [sample.label for sample in dataset.samples]

    dataset, labels = read("M")
    assert labels == [0, 0, 1, 1, 1] and len({sample.patient for sample in dataset.samples}) == 3
    assert "1 cells for file names are empty" in dataset.describe()
    assert read("left says", "right says", positive="ill")[1] == [0, 0, 0, 1, 1]
    assert read("N", "D", "M", positive="M")[1] == [0, 0, 1, 1, 1]
    dataset, labels = read("N", "M", positive="M")
    assert labels == [0, 0, 1, 1, 1] and dataset.classes == ("N", "M")
    write(table, ODIR + "1,1_left.jpg,1_right.jpg,ok,ok,1,0,0\n2,2_left.jpg,2_right.jpg,ok,ill,0,1,1\n")
    with pytest.raises(PmtrainError, match="line 3: D and M are both 1"):
        read("N", "D", "M", positive="M")


def test_two_columns_of_files_are_never_guessed(pairs):
    table = write(pairs / "t.csv", "left,right,label\n1_left.jpg,1_right.jpg,0\n2_left.jpg,2_right.jpg,1\n")
    assert "--path-column 'left' or --path-column 'right'" in refusal(table)


def test_a_table_as_excel_saves_it_in_europe(pairs):
    table = write(pairs / "t.csv", "Bild;Diagnose\r\n1_left.jpg;gesund\r\n2_left.jpg;Myopie höher\r\n", "latin-1")
    dataset = read_dataset(table)
    assert dataset.classes == ("gesund", "Myopie höher")
    assert "t.csv isn't UTF-8: it was read as Windows-1252" in dataset.describe()


def test_sheets_and_merged_cells(pairs):
    openpyxl = pytest.importorskip("openpyxl")
    rows = [("image", "patient", "label"), ("1_left.jpg", "p1", 0), ("1_right.jpg", None, 0), ("2_left.jpg", "p2", 1)]
    path = workbook(pairs / "t.xlsx", [("nothing",)], rows)
    book = openpyxl.load_workbook(path)
    book["Tabelle2"].merge_cells("B2:B3")
    book.save(path)
    dataset = read_dataset(path, columns=TableOptions(sheet="Tabelle2"))
    assert [sample.patient for sample in dataset.samples] == ["p1", "p1", "p2"]
    assert "--sheet 'Tabelle3'" in refusal(path, columns=TableOptions(sheet="Tabelle3"))
    text = write(pairs / "t.csv", "image,label\n1_left.jpg,0\n2_left.jpg,1\n")
    assert "which has no sheets" in refusal(text, columns=TableOptions(sheet="Tabelle2"))


def test_one_patient_written_in_two_ways(pairs, tmp_path):
    train = write(pairs / "train.csv", "file,patient,label\n1_left.jpg,1,0\n2_left.jpg,2,1\n")
    val = write(pairs / "val.csv", "file,patient,label\n1_right.jpg,001,0\n2_right.jpg,002,1\n")
    dataset = read_dataset(train, val_data=val)
    assert [sample.patient for sample in dataset.samples] == ["1", "2", "1", "2"]
    assert "001 and 1, 002 and 2" in dataset.describe()


BOTH = {"1_left.jpg": (None, 0), "2_left.jpg": (None, 1)}


@pytest.mark.parametrize(
    "start", ["C:\\\\data\\\\eyes\\\\", "/home/anna/eyes/", "/home/anna/"], ids=["Windows", "Linux", "another folder"]
)
def test_paths_of_another_machine_are_read_from_the_part_on_that_is_here(pairs, start):
    table = write(pairs / "t.csv", f"path,label\n{start}1_left.jpg,0\n{start}2_left.jpg,1\n")
    data = read_dataset(table)
    assert listed(data) == BOTH
    said = start.replace("\\", "/")
    assert f"the paths begin with {said}, as on another machine; that is left out" in data.notes
    beside = write(pairs / "lists/../list/t.csv", table.read_text())
    assert listed(read_dataset(beside, columns=TableOptions(root=pairs))) == BOTH


def test_a_path_of_another_machine_names_no_second_folder(pairs):
    write(pairs / "t.csv", "path,label\n/a/eyes/1_left.jpg,0\n/b/eyes/2_left.jpg,1\n")
    assert "files that don't exist: /b/eyes/2_left.jpg (line 3)" in refusal(pairs / "t.csv")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image|label\n1_left.jpg|0\n2_left.jpg|1\n", "utf-8"),
        ("1_left.jpg 0\n2_left.jpg 1\n", "utf-8"),
        ("# made by Anna, 2024\n# eyes\nimage,label\n1_left.jpg,0\n2_left.jpg,1\n", "utf-8"),
        ("image,label\n1_left.jpg,0\n2_left.jpg,1\n", "utf-16-le"),
        ("image,label\n1_left.jpg,0\n2_left.jpg,1\n", "utf-16-be"),
        ("#,image,label\n1,1_left.jpg,0\n2,2_left.jpg,1\n", "utf-8"),
    ],
    ids=["pipes", "blanks", "comments", "UTF-16", "UTF-16, big end first", "a column #"],
)
def test_text_in_other_forms(pairs, text, encoding):
    assert listed(read_dataset(write(pairs / "t.txt", text, encoding))) == BOTH


def test_a_column_of_splits_is_found_by_its_cells(pairs):
    lines = ["图像,患者编号,标签,数据集", "1_left.jpg,1,否,训练集", "2_left.jpg,2,是,训练集", "3_left.jpg,3,否,验证集"]
    data = read_dataset(write(pairs / "t.csv", "\n".join(lines)))
    assert [(sample.split, sample.patient, sample.label) for sample in data.samples] == [
        ("train", "1", 0),
        ("train", "2", 1),
        ("val", "3", 0),
    ]
    assert "the column '数据集' has the splits" in data.notes
    whole = read_dataset(pairs / "t.csv", columns=TableOptions(split_column=""))
    assert {sample.split for sample in whole.samples} == {None}


def test_a_missing_file_whose_name_is_nearly_there(pairs):
    table = write(
        pairs / "t.csv", "image,label\n1_left.jpg,0\n2_LEFT.png,1\n"
    )  # the first is right: so is the rest meant
    assert "there is 2_left.jpg: the table must have the same letters and suffix" in refusal(table)


def test_what_was_decided_is_told_with_an_error(pairs):
    table = write(pairs / "t.csv", "图像,标签\n1_left.jpg,甲\n2_left.jpg,乙\n", "gb18030")
    assert "it was read as GB18030" in refusal(table)
    book = workbook(pairs / "t.xlsx", [("image", "label"), ("1_left.jpg", 0)], [("Clinic of eyes",)])
    assert "sheet 'Tabelle1' was read, not 'Tabelle2'" in refusal(book)


def test_json_lines(pairs):
    lines = [
        '{"file_name": "1_left.jpg", "label": 0.0, "age": null}',
        "",
        '{"file_name": "2_left.jpg", "label": 1, "x": []}',
    ]
    write(pairs / "metadata.jsonl", "\n".join(lines))
    for data in (pairs / "metadata.jsonl", pairs):
        found = read_dataset(data)
        assert listed(found) == BOTH
        assert found.samples[0].columns == (("age", ""),)
    write(pairs / "metadata.jsonl", "\n".join([*lines, "[1, 2]"]))
    assert "metadata.jsonl, line 4: is not a JSON object" in refusal(pairs / "metadata.jsonl")


def test_json_lists_and_labels_by_name(pairs):
    write(pairs / "t.json", '[{"image": "1_left.jpg", "label": 0}, {"image": "2_left.jpg", "label": 1}]')
    assert listed(read_dataset(pairs / "t.json")) == BOTH
    assert "is not a JSON object" in refusal(write(pairs / "u.json", "[1]"))
    assert listed(read_dataset(write(pairs / "v.json", '{"1_left.jpg": 0, "2_left.jpg": 1}'))) == BOTH
    assert "is no list of JSON objects" in refusal(write(pairs / "w.json", '{"lr": 0.1}'))


@pytest.mark.parametrize("encoding", ["cp932", "cp950", "cp949"])
def test_tables_as_excel_saves_them_in_east_asia(pairs, encoding):
    heads = {"cp932": ("画像", "診断"), "cp950": ("圖片", "診斷"), "cp949": ("파일명", "진단")}[encoding]
    well, ill = {"cp932": ("正常", "緑内障"), "cp950": ("正常", "青光眼"), "cp949": ("정상", "녹내장")}[encoding]
    text = f"{','.join(heads)}\n1_left.jpg,{well}\n2_left.jpg,{ill}\n"
    data = read_dataset(write(pairs / "t.csv", text, encoding))
    assert listed(data) == BOTH and data.classes == (well, ill)
    assert "isn't UTF-8: it was read as" in data.notes[0]


def test_what_programs_write_into_empty_cells(pairs):
    table = write(pairs / "t.csv", "image,patient,label\n1_left.jpg,nan,0\n2_left.jpg,NaN,1\n3_left.jpg,3,nan\n")
    assert "line 4: the label is empty" in refusal(table)
    data = read_dataset(table, exclude="", columns=TableOptions(blank_labels=True))
    assert listed(data) == BOTH and [sample.patient for sample in data.samples] == ["", ""]


def test_columns_of_0_and_1(pairs):
    table = write(pairs / "t.csv", "image,normal,myopia\n1_left.jpg,1,0\n2_left.jpg,0,1\n")
    assert listed(read_dataset(table)) == BOTH
    write(table, "image,risk,DR,age\n1_left.jpg,0,0,50\n2_left.jpg,1,0,60\n3_left.jpg,1,1,50\n")
    assert "columns of 0 and 1: risk, DR; --label-column risk" in refusal(table)
    write(table, "image,age,stage\n1_left.jpg,50,a\n2_left.jpg,60,b\n3_left.jpg,61,b\n")
    assert listed(read_dataset(table, positive="b"))["2_left.jpg"] == (None, 1)
    write(table, "image,x,stage\n1_left.jpg,50,a\n2_left.jpg,60,b\n3_left.jpg,61,b\n")
    assert "--label-column stage: its labels are a, b" in refusal(table)


def test_tables_in_the_folders_of_the_splits(tmp_path, touch):
    for split in ("train", "valid"):
        touch(tmp_path, f"{split}/1.jpg", f"{split}/2.jpg")
        write(tmp_path / split / "_classes.csv", "filename, Normal, PM\n1.jpg, 1, 0\n2.jpg, 0, 1\n")
    data = read_dataset(tmp_path)
    assert [(s.split, s.label) for s in data.samples] == [("train", 0), ("train", 1), ("val", 0), ("val", 1)]


def test_the_only_folder_in_a_folder_is_looked_into(tmp_path, touch):
    touch(tmp_path, "set/images/1.jpg", "set/images/2.jpg")
    write(tmp_path / "set/labels.csv", "image,label\n1.jpg,0\n2.jpg,1\n")
    assert listed(read_dataset(tmp_path)) == {"1.jpg": (None, 0), "2.jpg": (None, 1)}
