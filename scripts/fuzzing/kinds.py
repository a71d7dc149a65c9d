"""The kinds of files: what each begins with, how it is read, what is put into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzing import changes, data_sets, networks, pictures, reading

Files = dict[str, bytes]  # the files of one example, by name; the first is the one that is changed


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Args:
        begins: makes the contents to begin with, valid and hostile; or whole folders of files.
        read: reads an example: the file, or its folder where there is no suffix.
        suffix: of the file.
        tokens: pieces of text that mean something to the reader.
        inside: changes a file within its checksums or its packing.
        beside: makes the files that lie beside it.
    """

    begins: Callable[[], Sequence[bytes | Mapping[str, bytes]]]
    read: Callable[[Path], object]
    suffix: str = ""
    tokens: tuple[bytes, ...] = ()
    inside: changes.Inside | None = None
    beside: Callable[[], Mapping[str, bytes]] = dict

    def files(self) -> list[Files]:
        """The examples to begin with."""
        beside = self.beside()
        made = (begin if isinstance(begin, Mapping) else {f"f{self.suffix}": begin} for begin in self.begins())
        return [{**begin, **beside} for begin in made]

    def read_in(self, folder: Path) -> object:
        """Read the example in a folder."""
        return self.read(folder / f"f{self.suffix}" if self.suffix else folder)


def _words(text: bytes) -> tuple[bytes, ...]:
    return tuple(text.split())


WORDS = (b"\0", b"\n", *_words(b".. / -1 1e999 NaN null \xff\xfe"), b"\xed\xa0\x80", b"9" * 400)  # half a surrogate
JSON = (*WORDS, *_words(b'{ [ } ] " , : true Infinity "\\ud800" [[[[ 1.5 {} [] 2'))
YAML = (
    *WORDS, b"&a ", b"*a", b"!!python/name:os.system", b"!!binary ", b"<<: ", b"? ", b"- ", b": ", b"|\n", b"[", b"{",
    b"%", b"'", b'"', b"# ", b"\t", b"2001-01-01", b"0x", b"yes", b"~",
)  # fmt: skip
CELLS = (
    *WORDS, b",", b";", b"\t", b'"', b'""', b"\r", *_words(b"=1+1 @x path label split train 1.png ../1.png 0 1"),
    b"\xef\xbb\xbf", "标签".encode(),
)  # fmt: skip
XML = (*WORDS, *_words(b"""< > </v> <v> &lt; &#0; r="A1" r="XFD1048576" t="s" 99999 <!-- ]]>"""))
PICKLE = (
    b"c", b"cos\nsystem\n", b"cbuiltins\neval\n", *_words(b"R b \x93 \x94"), b"h\0",
    *_words(b"( t d ] } . \x81 Q i o e u s a 0 2 K\x01 N \x88"), *WORDS,
)  # fmt: skip
ARRAYS = (b"'descr'", b"'|O'", b"'<f8'", b"(4, 8, 8)", *WORDS)
OPERATORS = (b"If", b"Loop", b"Constant", b"/etc/passwd", *JSON)
MARKERS = tuple(b"\xff%c" % mark for mark in b"\xd8\xda\xc0\xc4\xd9")

KINDS = {
    "pdparams": Kind(networks.weights, reading.read_weights, ".pdparams", PICKLE),
    "pdopt": Kind(networks.optimizers, reading.read_optimizer, ".pdopt", PICKLE),
    "safetensors": Kind(networks.safetensors_files, reading.read_weights, ".safetensors", JSON),
    "pth": Kind(networks.torch_files, reading.read_weights, ".pth", PICKLE, changes.in_zip),
    "side": Kind(networks.side_files, reading.read_side, ".json", JSON),
    "run": Kind(networks.run_folders, reading.read_run, tokens=(*JSON, *YAML, *CELLS)),
    "yaml": Kind(networks.yaml_files, reading.read_config, ".yaml", YAML),
    "onnx": Kind(networks.onnx_files, reading.read_onnx, ".onnx", OPERATORS),
    "csv": Kind(data_sets.tables, reading.read_data, ".csv", CELLS, beside=data_sets.images),
    "xlsx": Kind(data_sets.workbooks, reading.read_data, ".xlsx", XML, changes.in_zip, data_sets.images),
    "zip": Kind(data_sets.zips, reading.read_data, ".zip", WORDS, changes.in_zip),
    "tar": Kind(data_sets.tars, reading.read_data, ".tar", WORDS, changes.in_tar),
    "npz": Kind(data_sets.npz_files, reading.read_data, ".npz", ARRAYS, changes.in_zip),
    "h5": Kind(data_sets.hdf5_files, reading.read_data, ".h5", WORDS),
    "parquet": Kind(data_sets.parquet_files, reading.read_data, ".parquet", WORDS),
    "png": Kind(pictures.pngs, reading.read_picture, ".png", WORDS, changes.in_png),
    "jpeg": Kind(pictures.jpegs, reading.read_picture, ".jpg", MARKERS),
    "tiff": Kind(pictures.tiffs, reading.read_picture, ".tif", WORDS),
    "webp": Kind(pictures.webps, reading.read_picture, ".webp", WORDS),
    "bmp": Kind(pictures.others, reading.read_picture, ".bmp", WORDS),
    "dicom": Kind(pictures.dicoms, reading.read_picture, ".dcm", WORDS),
}
