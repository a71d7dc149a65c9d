"""From a request's bytes to images: parsed and decoded in memory, bounded in number and in pixels."""

from __future__ import annotations

import io
import warnings
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pmtrain.data.images.decoders import FORMATS
from pmtrain.data.images.dicom import dicom_sides, is_dicom
from pmtrain.data.images.read import BadImage, ImageFile
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.inference.serving.guard import Refusal

MEBIBYTE = 2**20


class Upload(NamedTuple):
    """A file of a request: the name that the sender gave it, and its bytes."""

    name: str
    data: bytes


async def read_uploads(request: Any, most: int, most_bytes: int) -> list[Upload]:
    """The images of a request: every file of a form, or the one that is the body itself.

    Args:
        request: Starlette's.
        most: files.
        most_bytes: of the body; none of it is put on disk.
    Raises:
        Refusal: there is none, or there are too many.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        if not kind.startswith("image/") and kind not in ("application/octet-stream", "application/dicom"):
            raise Refusal(415, "send a form (multipart/form-data) with the images as files, or one image as the body")
        data = await request.body()
        if not data:
            raise Refusal(400, "the request holds no image")
        return [Upload("image", data)]
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    parser = MultiPartParser(request.headers, request.stream(), max_files=most, max_fields=most)
    parser.spool_max_size = most_bytes + 1  # so that a file is never put on disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise Refusal(413, f"a request has at most {most} images") from None
        raise Refusal(400, f"the form can't be read: {error.message}") from None
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    uploads = [Upload(_name(file.filename), await file.read()) for file in files]
    await form.close()
    if not uploads:
        raise Refusal(400, "the request holds no image")
    return uploads


def _name(given: str | None) -> str:
    """The last part of a file's name, as a browser or a program sends it, bounded and printable."""
    name = PurePosixPath((given or "image").replace("\\", "/")).name or "image"
    return "".join(each if each.isprintable() else "?" for each in name)[:200]


def decoded(upload: Upload, preprocess: Preprocess, most_pixels: int) -> np.ndarray:
    """uint8 (S, S, 3), BGR, as `Preprocess.read` gives it of a file.

    Raises:
        BadImage: it can't be decoded whole, or has more than `most_pixels` pixels.
    """
    file = ImageFile(upload.name, upload.data)
    height, width = sides(file)
    if height * width > most_pixels:
        raise BadImage(
            upload.name, f"it has {height * width / 1e6:.0f} million pixels; at most {most_pixels / 1e6:g} million"
        )
    return preprocess.read_file(file)


def sides(file: ImageFile) -> tuple[int, int]:
    """Height and width by the header, before anything is decoded; (0, 0) where the decoder will refuse the file."""
    if file.header:
        return file.header.sides
    if is_dicom(file.data):
        return dicom_sides(file.data)
    from PIL import Image

    try:
        Image.init()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the caller has a limit of its own
            with Image.open(io.BytesIO(file.data), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                return image.height, image.width
    except Image.DecompressionBombError:
        return 2**31, 2**31
    except MemoryError:
        raise
    except Exception:  # not an image: the decoder says so in its own words
        return 0, 0
