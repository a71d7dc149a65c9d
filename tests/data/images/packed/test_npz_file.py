"""NumPy's files read in parts, compared with numpy.load."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from pmtrain.data.images.packed.npz_file import open_npz
from pmtrain.system.errors import PmtrainError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (300, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (7, 5, 4, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (3, 6, 5), np.uint16)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_are_netpbm_files_of_the_values_that_numpy_loads(tmp_path, save):
    save(tmp_path / "a.npz", train_images=GREY, rgb=COLOUR, deep=DEEP, labels=np.arange(300)[:, None])
    opened = open_npz(str(tmp_path / "a.npz"))
    assert len(list(opened.members)) == 310
    for index in (299, 0, 150, 1):
        assert opened.read(f"train_images/{index}") == b"P5\n28 28\n255\n" + GREY[index].tobytes()
    assert opened.read("rgb/6") == b"P6\n4 5\n255\n" + COLOUR[6].tobytes()
    assert opened.read("deep/2") == b"P5\n5 6\n65535\n" + DEEP[2].astype(">u2").tobytes()
    assert all(opened.size(name) == len(opened.read(name)) for name in opened.members)
    assert (opened.values("labels").ravel() == np.arange(300)).all()


def test_what_is_no_image_is_no_member(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY, volumes=np.zeros((2, 9, 9, 9), np.uint8), floats=np.zeros((2, 9, 9)))
    opened = open_npz(str(tmp_path / "a.npz"))
    for name in ("images/300", "images/-1", "images/01", "images/x", "images", "other/0", "volumes/0", "", "images/²"):
        with pytest.raises(KeyError):
            opened.read(name)
    assert "float64" in opened.reasons["floats"] and "(9, 9, 9)" in opened.reasons["volumes"]


def damaged(array: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train_images.npy", array)
    return stream.getvalue()


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class Fires:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (saved(np.array([Fires()], object)), "Python objects"),
        (saved(np.asfortranarray(GREY)), "Fortran order"),
        (saved(GREY)[:-1], "don't fit its shape"),
        (saved(GREY).replace(b"(300,", b"(9e9,"), "shape"),
        (saved(GREY).replace(b"), }", b"(,  }"), "multi-line"),
        (saved(GREY).replace(b"'|u1'", b"'|u9'"), "u9"),
        (b"\x93NUMPY\x01\x00\xff\xff", "EOF"),
        (b"", "EOF"),
        (b"nothing of NumPy", "magic"),
    ],
)
def test_a_damaged_array_is_refused(tmp_path, array, reason):
    (tmp_path / "a.npz").write_bytes(damaged(array))
    with pytest.raises(PmtrainError, match="a.npz: train_images: ") as caught:
        open_npz(str(tmp_path / "a.npz"))
    assert reason in str(caught.value)
