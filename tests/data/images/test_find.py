"""What arguments of files, folders and patterns are taken to mean."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pmtrain.data.images.find import find_images
from pmtrain.system.errors import UsageError


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.PNG",
        "a.jpg",
        "notes.txt",
        ".hidden.jpg",
        "左/眼 1.jpeg",
        "左/深/c.webp",
        ".git/d.jpg",
        "空/e.csv",
    ):
        path = tmp_path / "照片" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return Path("照片")


def found(*arguments: object) -> list[str]:
    return [path.as_posix() for path in find_images([str(argument) for argument in arguments])]


def test_a_folder_gives_the_images_in_and_below_it_sorted(photos):
    assert found(photos) == ["照片/a.jpg", "照片/b.PNG", "照片/左/眼 1.jpeg", "照片/左/深/c.webp"]


def test_a_file_is_taken_whatever_its_suffix(photos):
    assert found(photos / "notes.txt", photos / ".hidden.jpg") == ["照片/notes.txt", "照片/.hidden.jpg"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("照片/*", ["照片/a.jpg", "照片/b.PNG", "照片/左/眼 1.jpeg", "照片/左/深/c.webp"]),
        ("照片/?.jpg", ["照片/a.jpg"]),
        ("照片/左/眼*", ["照片/左/眼 1.jpeg"]),
        ("**/*.webp", ["照片/左/深/c.webp"]),
        ("照片/[ab].*", ["照片/a.jpg", "照片/b.PNG"]),
    ],
)
def test_patterns_are_expanded_here(photos, pattern, names):
    assert found(pattern) == names


def test_the_order_is_the_one_given_and_a_file_comes_once_at_its_first_place(photos):
    again = photos.resolve() / "a.jpg"
    assert found(photos / "b.PNG", photos, "照片/*.jpg", again, "./照片/b.PNG")[:2] == ["照片/b.PNG", "照片/a.jpg"]
    assert len(found(photos / "b.PNG", photos, "照片/*.jpg", again, "./照片/b.PNG")) == 4


def test_a_file_goes_before_the_pattern_that_its_name_is(photos):
    (photos / "a[1].jpg").write_bytes(b"")
    assert found(photos / "a[1].jpg") == ["照片/a[1].jpg"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("照片/none.jpg", "no such file"),
        ("照片/*.tif", "nothing matches"),
        ("照片/空", "no image"),
        ("照片/*.txt", "no image"),
        ("", "no such file"),
    ],
)
def test_what_names_nothing_is_an_error(photos, argument, said):
    with pytest.raises(UsageError, match=said) as caught:
        find_images([str(photos), argument])
    assert caught.value.message.startswith(f"{argument}:")


def test_links_are_followed_and_end(photos):
    try:
        os.symlink(photos.resolve(), photos / "左" / "loop")
        os.symlink((photos / "左").resolve(), photos / "link")
    except OSError:
        pytest.skip("no links can be made here")
    assert found(photos / "link") == [
        "照片/link/眼 1.jpeg",
        "照片/link/loop/a.jpg",
        "照片/link/loop/b.PNG",
        "照片/link/深/c.webp",
    ]


def test_names_are_never_respelt(photos):
    name = unicodedata.normalize("NFD", "é.png")
    (photos / name).write_bytes(b"")
    assert found(photos / name) == [f"照片/{name}"]


def test_an_archive_stands_for_the_images_in_it(photos):
    with zipfile.ZipFile("all.zip", "w") as archive:
        for name in ("b.png", "眼/a.jpg", "notes.txt", "__MACOSX/c.png"):
            archive.writestr(name, b"1")
    assert find_images(["all.zip"]) == [Path("all.zip!/b.png"), Path("all.zip!/眼/a.jpg")]
    assert find_images(["all.zip!/眼", "all.zip!/notes.txt"]) == [Path("all.zip!/眼/a.jpg"), Path("all.zip!/notes.txt")]
    with pytest.raises(UsageError, match="no such file"):
        find_images(["all.zip!/gone.png"])


def test_a_folder_of_archives_and_arrays_stands_for_what_they_hold(photos):
    for name in ("many/a.zip", "many/deep/b.zip"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("1.png", b"1")
    np.savez("many/c.npz", val_images=np.zeros((2, 3, 3), np.uint8), val_labels=np.zeros((2, 1), np.uint8))
    arrays = ["many/c.npz!/val_images/0", "many/c.npz!/val_images/1"]
    assert found("many") == ["many/a.zip!/1.png", *arrays, "many/deep/b.zip!/1.png"]
    assert found("many/*") == ["many/a.zip!/1.png", *arrays]
    assert found("many/*.npz") == arrays
    # Beside images they are rather the same images packed.
    (Path("many") / "7.jpg").write_bytes(b"")
    assert found("many") == ["many/7.jpg"]
    Path("none").mkdir()
    with pytest.raises(UsageError, match="hold no image"):
        find_images(["none"])
