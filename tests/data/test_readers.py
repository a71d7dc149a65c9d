from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pmtrain.data.readers import READERS, find_dataset, read_dataset
from pmtrain.data.split import require_both_classes
from pmtrain.errors import PmtrainError, UsageError


def refusal(data: Path, **options) -> str:
    """What a training is told of data that it can't use."""
    with pytest.raises(PmtrainError) as caught:
        dataset = read_dataset(data, **options)
        if dataset.split("val"):  # without one, some images are held out for it
            require_both_classes(dataset)
    return str(caught.value)


def listed(dataset) -> dict[str, tuple[str | None, int]]:
    return {dataset.name_of(sample): (sample.split, sample.label) for sample in dataset.samples}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


# palm


@pytest.fixture
def palm(tmp_path, touch) -> Path:
    """The challenge's layout, five images small."""
    touch(tmp_path, *(f"PALM-Training400/{name}.jpg" for name in ("P0001", "H0001", "N0001")))
    touch(tmp_path, *(f"PALM-Validation400/{name}.jpg" for name in ("V0001", "V0002")))
    write(tmp_path / "labels.csv", "ID,imgName,Label,Fovea_X,Fovea_Y\n1,V0001.jpg,0,1.5,2\n2,V0002.jpg,1,3,4\n")
    return tmp_path


PALM_LISTING = {
    "PALM-Training400/H0001.jpg": ("train", 0),
    "PALM-Training400/N0001.jpg": ("train", 0),
    "PALM-Training400/P0001.jpg": ("train", 1),
    "PALM-Validation400/V0001.jpg": ("val", 0),
    "PALM-Validation400/V0002.jpg": ("val", 1),
}


def test_palm(palm):
    dataset = read_dataset(palm)
    assert listed(dataset) == PALM_LISTING
    assert (dataset.layout, dataset.classes) == ("palm", ("non-pathological", "pathological myopia"))


@pytest.mark.parametrize(
    "table",
    [
        "\ufefflabel,IMGNAME\n0,V0001.jpg\n1,V0002.jpg\n",
        " Img Name ; Fovea_X; LABEL \r\n v0001.JPG ; 1,5 ; 0 \r\nV0002.jpg;2,5;1\r\n\r\n",
        "imgname\tLabel\n\nV0002.jpg\t1.0\nV0001.jpg\t0.0\n",
        '"imgName","Label"\n"V0001.jpg","0"\n"V0002.jpg","1"',
    ],
    ids=["BOM and order", "semicolons, spaces, CRLF", "tabs and blank lines", "quotes"],
)
def test_palm_labels_in_other_dress(palm, table):
    write(palm / "labels.csv", table)
    assert listed(read_dataset(palm)) == PALM_LISTING


def test_palm_as_people_unpack_it(tmp_path, touch):
    touch(tmp_path, *(f"PALM-Training400/PALM-Training400/{name}" for name in ("P0001.jpg", "N0001.jpg", "Thumbs.db")))
    touch(tmp_path, "PALM-Training400/__MACOSX/P0001.jpg", "PALM-Training400/.cache/N0001.jpg")
    touch(tmp_path, "PALM-Training400-Annotation-D&F/Disc_Masks/P0001.bmp", "PALM-Training400/._P0001.jpg")
    touch(tmp_path, "PALM-Training400-Annotation-D&F/Disc_Masks/N0001.bmp")
    touch(
        tmp_path, "PALM-Validation400/PALM-Validation400/V0001.jpg", "PALM-Validation400/PALM-Validation400/V0002.jpg"
    )
    write(tmp_path / "PALM-Validation-GT/labels.csv", "imgName,Label\nV0001.jpg,1\nV0002.jpg,0\n")
    assert listed(read_dataset(tmp_path)) == {
        "PALM-Training400/PALM-Training400/N0001.jpg": ("train", 0),
        "PALM-Training400/PALM-Training400/P0001.jpg": ("train", 1),
        "PALM-Validation400/PALM-Validation400/V0001.jpg": ("val", 1),
        "PALM-Validation400/PALM-Validation400/V0002.jpg": ("val", 0),
    }


@pytest.mark.parametrize("place", ["labels.csv", "PALM-Validation400/labels.csv", "PALM-Validation-GT/labels.csv"])
def test_palm_training_and_validation_given_apart(palm, place):
    write(palm / place, (palm / "labels.csv").read_text())
    if place != "labels.csv":
        (palm / "labels.csv").unlink()
    dataset = read_dataset(palm / "PALM-Training400", val_data=palm / "PALM-Validation400")
    assert listed(dataset) == {
        "H0001.jpg": ("train", 0),
        "N0001.jpg": ("train", 0),
        "P0001.jpg": ("train", 1),
        "../PALM-Validation400/V0001.jpg": ("val", 0),
        "../PALM-Validation400/V0002.jpg": ("val", 1),
    }


def test_palm_parts_alone(palm):
    assert Counter(sample.split for sample in read_dataset(palm / "PALM-Training400").samples) == {"train": 3}
    assert Counter(sample.split for sample in read_dataset(palm / "PALM-Validation400").samples) == {"val": 2}


def test_palm_labels_in_excel_are_refused_with_the_way_out(palm):
    (palm / "labels.csv").unlink()
    (palm / "PM_Label_and_Fovea_Location.xlsx").touch()
    message = refusal(palm)
    assert "PM_Label_and_Fovea_Location.xlsx" in message and "labels.csv" in message


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("imgName,Label\nV0001.jpg,0\n", ["V0002.jpg", "no label"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,1\nV0003.jpg,1\n", ["V0003.jpg (line 4)", "doesn't hold"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,2\n", ["line 3", "'2'"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,1\nV0001.jpg,1\n", ["line 4", "V0001.jpg", "two labels", "line 2"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg\n", ["line 3", "1 cells"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,0\n", ["val", "pathological myopia"]),
        ("name,value\nV0001.jpg,0\n", ["no labels", "labels.csv"]),
    ],
)
def test_palm_labels_that_do_not_fit_are_refused(palm, table, named):
    write(palm / "labels.csv", table)
    message = refusal(palm)
    assert all(word in message for word in named), message


def test_palm_images_that_do_not_fit_are_refused(palm, touch):
    touch(palm, "PALM-Training400/X0001.jpg")
    assert "X0001.jpg" in refusal(palm)
    (palm / "PALM-Training400/X0001.jpg").unlink()
    touch(palm, "copy/P0001.jpg", "copy/N0001.jpg")
    assert "more than one folder" in refusal(palm)


def test_palm_labels_without_photographs_are_refused(palm):
    for path in (palm / "PALM-Validation400").iterdir():
        path.unlink()
    assert "labels.csv" in refusal(palm)


# folder


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("val", ["val", "VALID", "validation"])
def test_class_folders_in_split_folders(tmp_path, touch, train, val):
    touch(tmp_path, f"{train}/normal/1.jpg", f"{train}/myopia/1.png", f"{train}/myopia/deeper/2.JPEG", "notes.txt")
    touch(tmp_path, f"{val}/normal/3.jpg", f"{val}/myopia/4.tif", "testing/myopia/5.bmp", f"{val}/myopia/Thumbs.db")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.classes) == ("folder", ("normal", "myopia"))
    assert listed(dataset) == {
        f"{train}/normal/1.jpg": ("train", 0),
        f"{train}/myopia/1.png": ("train", 1),
        f"{train}/myopia/deeper/2.JPEG": ("train", 1),
        f"{val}/normal/3.jpg": ("val", 0),
        f"{val}/myopia/4.tif": ("val", 1),
        "testing/myopia/5.bmp": ("test", 1),
    }


@pytest.mark.parametrize("wrapped", ["", "archive/", "archive/images/"])
def test_class_folders_without_splits(tmp_path, touch, wrapped):
    touch(tmp_path, f"{wrapped}no_dr/a b.jpg", f"{wrapped}dr/病.jpg", f"{wrapped}docs/readme.md")
    assert listed(read_dataset(tmp_path)) == {f"{wrapped}no_dr/a b.jpg": (None, 0), f"{wrapped}dr/病.jpg": (None, 1)}


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("Uninfected", "Parasitized"),
        ("NORMAL", "PNEUMONIA"),
        ("healthy", "abnormal"),
        ("no_dr", "dr"),
        ("No DR", "DR"),
        ("non-referable", "referable"),
        ("0", "1"),
        ("neg", "pos"),
        ("benign", "malignant"),
        ("control", "case"),
    ],
)
def test_well_known_negatives_are_recognised(tmp_path, touch, negative, positive):
    touch(tmp_path, f"{negative}/1.jpg", f"{positive}/2.jpg")
    assert read_dataset(tmp_path).classes == (negative, positive)
    assert read_dataset(tmp_path, positive=negative).classes == (positive, negative)


@pytest.mark.parametrize("names", [("cat", "dog"), ("normal", "healthy"), ("nodule", "nova")])
def test_which_class_is_positive_is_never_guessed(tmp_path, touch, names):
    touch(tmp_path, f"{names[0]}/1.jpg", f"{names[1]}/2.jpg")
    message = refusal(tmp_path)
    assert all(f"--positive {name!r}" in message for name in names)
    dataset = read_dataset(tmp_path, positive=names[1].upper())
    assert dataset.classes == names and listed(dataset)[f"{names[1]}/2.jpg"] == (None, 1)
    with pytest.raises(UsageError, match="bird"):
        read_dataset(tmp_path, positive="bird")


def test_classes_that_are_not_two_are_refused(tmp_path, touch):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg")
    message = refusal(tmp_path)
    assert "3 classes" in message and "b (2 images)" in message
    touch(tmp_path / "one", "train/a/1.jpg")
    assert "1 class," in refusal(tmp_path / "one")


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg"], ["val", "'b'"]),
        (["train/a/1.jpg", "val/b/1.jpg", "val/a/2.jpg"], ["train", "'b'"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/readme.md"], ["val", "empty"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/readme.md", "val/2.jpg"], ["val", "empty"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"], ["val", "valid"]),
        (["train/a/1.jpg", "train/b/1.jpg", "other/1.jpg"], ["other"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/A/1.jpg", "val/b/1.jpg"], ["3 classes", "A (1 images)"]),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, touch, names, named):
    touch(tmp_path, *names)
    message = refusal(tmp_path, positive="a")
    assert all(word in message for word in named), message


def test_validation_folder_given_apart(tmp_path, touch):
    touch(tmp_path, "a/no/1.jpg", "a/yes/2.jpg", "b/no/1.jpg", "b/yes/2.jpg", "c/no/1.jpg", "c/maybe/1.jpg")
    dataset = read_dataset(tmp_path / "a", val_data=tmp_path / "b")
    assert listed(dataset) == {
        "no/1.jpg": ("train", 0),
        "yes/2.jpg": ("train", 1),
        "../b/no/1.jpg": ("val", 0),
        "../b/yes/2.jpg": ("val", 1),
    }
    assert "3 classes" in refusal(tmp_path / "a", val_data=tmp_path / "c")
    assert "share files" in refusal(tmp_path / "a", val_data=tmp_path / "b" / ".." / "a")
    assert "no such file" in refusal(tmp_path / "a", val_data=tmp_path / "gone")


# csv


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
        ("path,label,target\neyes/1.jpg,0,0\n", ["more than one column", "label, target"]),
        ("path,grade\neyes/1.jpg,0\n", ["no column for the label", "path, grade"]),
        ("", ["no column for the path"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(images, table, named):
    message = refusal(write(images / "t.csv", table), data_format="csv")
    assert all(word in message for word in named), message


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_a_table_in_another_encoding_is_refused(images, encoding):
    path = write(images / "t.csv", "path,label\neyes/1.jpg,0\neyes/三.jpg,1\n", encoding)
    assert "CSV UTF-8" in refusal(path)


def test_a_binary_table_is_refused(images):
    (images / "t.csv").write_bytes(b"path,label\na\0b.jpg,0\n\0\0")
    refusal(images / "t.csv")


def test_two_tables_in_a_folder_are_told_apart_by_naming_them(images):
    train = write(images / "train.csv", "path,label\neyes/1.jpg,0\neyes/2 b.jpg,1\n")
    val = write(images / "val.csv", 'path,label\neyes/三.jpg,0\n"eyes/4,4.jpg",1\n')
    assert "train.csv, val.csv" in refusal(images)
    dataset = read_dataset(train, val_data=val)
    assert Counter(sample.split for sample in dataset.samples) == {"train": 2, "val": 2}


def test_excel_is_refused_with_the_way_out(images):
    (images / "t.xlsx").touch()
    assert "CSV" in refusal(images / "t.xlsx", data_format="csv")


# auto


def test_an_unknown_layout_shows_the_known_ones(tmp_path, touch):
    touch(tmp_path, "1.jpg", "2.jpg")
    for data in (tmp_path, tmp_path / "1.jpg"):
        message = refusal(data)
        assert all(name in message for name in READERS) and len(message.splitlines()) < 8
    assert "no such file" in refusal(tmp_path / "gone")


def test_an_ambiguous_layout_is_refused(tmp_path, touch):
    touch(tmp_path, "normal/1.jpg", "ill/1.jpg")
    write(tmp_path / "labels.csv", "path,label\nnormal/1.jpg,1\nill/1.jpg,0\n")
    assert "--data-format folder or csv" in refusal(tmp_path)
    assert listed(read_dataset(tmp_path, data_format="csv"))["ill/1.jpg"] == (None, 0)
    assert listed(read_dataset(tmp_path, data_format="folder"))["ill/1.jpg"] == (None, 1)


def test_a_misspelt_format_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="'folder'"):
        read_dataset(tmp_path, data_format="foldr")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_a_folder_without_images(tmp_path, name):
    assert str(tmp_path) in refusal(tmp_path, data_format=name)


# find_dataset


def test_data_sets_are_found_directly_and_one_level_down(palm, tmp_path_factory, touch):
    assert find_dataset(palm) == palm
    data = tmp_path_factory.mktemp("data")
    assert find_dataset(data) is None and find_dataset(data / "gone") is None
    (data / "README.md").touch()
    assert find_dataset(data) is None
    palm.rename(data / "synthetic-pm")
    (data / "synthetic-pm/SYNTHETIC.md").touch()
    assert find_dataset(data) == data / "synthetic-pm"
    touch(data, "the eyes/normal/1.jpg", "the eyes/ill/1.jpg")
    assert find_dataset(data) == data / "the eyes"  # a synthetic one comes last


@pytest.mark.parametrize(
    "names", [["normal/1.jpg", "ill/1.jpg"], ["train/no/1.jpg", "train/yes/1.jpg", "val/no/1.jpg"]]
)
def test_a_data_set_directly_in_the_folder_is_not_taken_for_several(tmp_path, touch, names):
    assert find_dataset(touch(tmp_path, *names)) == tmp_path


def test_synthetic_data_say_so(palm):
    assert not read_dataset(palm).synthetic
    (palm / "SYNTHETIC.md").touch()
    for data in (palm, palm / "PALM-Training400"):
        assert read_dataset(data).synthetic
        assert "SYNTHETIC" in read_dataset(data).describe()


# real data


@pytest.mark.parametrize(
    ("name", "layout", "classes", "counts"),
    [
        (
            "ichallenge-pm-224",
            "palm",
            ("non-pathological", "pathological myopia"),
            {("train", 1): 213, ("train", 0): 187, ("val", 1): 211, ("val", 0): 189},
        ),
        (
            "malaria-gray50",
            "folder",
            ("Uninfected", "Parasitized"),
            {("train", 1): 1500, ("train", 0): 1500, ("val", 1): 500, ("val", 0): 500},
        ),
        ("dr-768", "csv", ("no_dr", "dr"), {(None, 1): 320, (None, 0): 276}),
        ("dr-native", "folder", ("no_dr", "dr"), {(None, 1): 8, (None, 0): 8}),
    ],
)
def test_real_data_sets(real_data, name, layout, classes, counts):
    dataset = read_dataset(real_data / name)
    assert (dataset.layout, dataset.classes) == (layout, classes)
    assert Counter((sample.split, sample.label) for sample in dataset.samples) == counts
    if name == "dr-768":
        assert len({sample.patient for sample in dataset.samples}) == 299
