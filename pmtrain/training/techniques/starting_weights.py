"""--weights: the weights that a run starts from, of this project or of another library, and what they expect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import TrainConfig, flag_of
from pmtrain.data.dataset import DataSet
from pmtrain.data.preprocessing.preprocess import PREPROCESSING, RGB, Preprocess
from pmtrain.data.splits.record import read_record
from pmtrain.models.weights.foreign import refuse_by_name, translated
from pmtrain.models.weights.names import LIBRARIES, LINEAR_WEIGHT
from pmtrain.models.weights.published import CACHE_VARIABLE, fetch
from pmtrain.runs.checkpoint import EXPORTED, PRETRAINED, find_weights, matching_info, sha256_of
from pmtrain.runs.formats.state_dict import parse_state
from pmtrain.runs.formats.untrusted import first_few, shown
from pmtrain.runs.model_state import apply_state
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import read_bytes

IMAGENET = "imagenet"
IMAGES = "images.csv"  # beside pre-trained weights: what they were made from
SAFETENSORS = "model.safetensors"  # as the Hugging Face hub has them, with config.json beside


@dataclass(frozen=True)
class StartingWeights:
    """Weights to start from.

    Args:
        given: as the person gave them.
        path: the file that was read.
        state: under this project's names; `out.*` where its classifier is kept.
        layers: a row of DEPTHS.
        library: a row of LIBRARIES.
        preprocessing: what they were trained with, a row of PREPROCESSING.
        image_size: in pixels; None where unknown.
        mean, std: RGB, in [0, 1], where the preprocessing normalises by the training set's own.
        left_out: names in the file that aren't used.
    """

    given: str
    path: Path
    sha256: str
    state: dict[str, np.ndarray]
    layers: int
    library: str
    preprocessing: str
    image_size: int | None
    mean: RGB | None
    std: RGB | None
    left_out: list[str]

    @property
    def has_classifier(self) -> bool:
        return LINEAR_WEIGHT in self.state

    @property
    def record(self) -> dict[str, Any]:
        """What run.json tells of them."""
        return {
            "given": self.given,
            "file": str(self.path.resolve()),
            "sha256": self.sha256,
            "names": self.library,
            "layers": self.layers,
            "classifier": "kept" if self.has_classifier else "new",
            "preprocessing": self.preprocessing,
            "left_out": self.left_out,
        }

    def apply(self, model: Any) -> None:
        """Set the model's weights; a classifier that they lack stays as the model drew it.

        Raises:
            PmtrainError: a weight has another shape, or is NaN or infinite.
        """
        own = {name: tensor.numpy() for name, tensor in model.state_dict().items() if name.startswith("out.")}
        apply_state(model, own | self.state, self.path)

    def seen_unlabelled(self, data: DataSet) -> int:
        """How many validation images `pmtrain pretrain` had for these weights, without labels; it is said.

        Raises:
            PmtrainError: its record of its images is damaged.
        """
        record = self.path.parent / IMAGES
        if self.path.name != PRETRAINED or not record.is_file():
            return 0
        validation = data.split("val")
        seen = sum(map(bool, read_record(record).used(validation)))
        if seen:
            console.notice(
                f"weights: pre-trained on {seen} of the {len(validation)} validation images, without their labels; that"
                " is no leak of labels, but say so"
            )
        return seen

    def preprocess(self, config: TrainConfig) -> Preprocess:
        """The config's, with the statistics that these weights were trained with where it is theirs."""
        mean, std = (self.mean, self.std) if config.preprocess == self.preprocessing else (None, None)
        return Preprocess(config.preprocess, config.image_size, mean, std, align_eyes=config.align_eyes)


def read_weights(given: str, layers: int, download: bool = True) -> StartingWeights:
    """Read the weights that `given` names: a file, a run folder, or `imagenet`.

    Args:
        layers: the depth of `imagenet`.
        download: whether `imagenet` may be downloaded.
    Raises:
        PmtrainError: there are none, they can't be read or downloaded, or are another network's.
    """
    path = fetch(layers, download) if given == IMAGENET else _find(Path(given))
    if path.suffix == EXPORTED:
        raise UsageError(
            f"--weights {path}: an ONNX model runs, but its weights can't be trained any more",
            "give the checkpoint that it was exported from, or an export in the format safetensors or torch",
        )
    for name in (path.name, _architecture(path)):
        refuse_by_name(shown(name))
    data = read_bytes(path)
    sha256 = sha256_of(data)
    try:
        found = translated(parse_state(data, path))
    except PmtrainError as error:
        whole = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise PmtrainError(whole, error.hint) from None
    info = matching_info(path, sha256)[1] if found.library == "pmtrain" else None
    return StartingWeights(
        given,
        path,
        sha256,
        found.state,
        found.layers,
        found.library,
        info.preprocessing if info else LIBRARIES[found.library].preprocessing,
        info.image_size if info else None,
        info.pixel_mean if info else None,
        info.pixel_std if info else None,
        found.left_out,
    )


def _find(path: Path) -> Path:
    if (path / SAFETENSORS).is_file():
        return path / SAFETENSORS
    if path.exists():
        return find_weights(path)
    raise PmtrainError(
        f"--weights {path}: there is no such file or folder",
        f"give a file, a run folder, or {IMAGENET} for the weights that paddle.vision publishes"
        f" (kept in the folder {CACHE_VARIABLE} if that is set)",
    )


def _architecture(path: Path) -> str:
    """What the hub's config.json beside a model.safetensors calls the network; empty without one."""
    if path.name != SAFETENSORS or not (path.parent / "config.json").is_file():
        return ""
    try:
        content = json.loads(read_bytes(path.parent / "config.json", 1 << 20))
    except ValueError:
        return ""
    return str(content.get("architecture", "")) if isinstance(content, dict) else ""


def with_weights(config: TrainConfig, download: bool = True) -> tuple[TrainConfig, StartingWeights | None]:
    """The weights of --weights, and the config with what follows from them unless it was given: depth, preprocessing.

    Says what was read, and warns where the preprocessing is not the one that the weights expect.

    Raises:
        UsageError: --layers is another depth; an option that needs --weights is given without it.
        PmtrainError: as `read_weights`.
    """
    if config.weights is None:
        if config.freeze is not None or config.warmup_head:
            flag = f"--freeze {config.freeze}" if config.freeze is not None else f"--warmup-head {config.warmup_head}"
            raise UsageError(f"{flag} without --weights: random layers would stay random", "give --weights too")
        return config, None
    if config.warmup_head >= config.epochs:
        raise UsageError(
            f"--warmup-head {config.warmup_head}: the run has {config.epochs} epochs: the rest would never learn",
            "give fewer warm-up epochs, or --freeze 4 if that is wanted",
        )
    weights = read_weights(config.weights, config.layers, download)
    given = config.model_fields_set
    if "layers" in given and config.layers != weights.layers:
        raise UsageError(
            f"--layers {config.layers}: {weights.path} holds a ResNet-{weights.layers}",
            f"give --layers {weights.layers}, or leave it out",
        )
    follow: dict[str, Any] = {"layers": weights.layers, "preprocess": weights.preprocessing}
    if weights.image_size is not None:
        follow["image_size"] = weights.image_size
    config = config.model_copy(update={name: value for name, value in follow.items() if name not in given})
    console.notice(
        f"weights: ResNet-{weights.layers} from {weights.path} (names of {weights.library}),"
        f" SHA-256 {weights.sha256[:12]}..., with {'its' if weights.has_classifier else 'a new'} classifier"
    )
    if weights.left_out:
        console.notice(f"weights: not used: {first_few(weights.left_out, 6)}")
    if config.preprocess != weights.preprocessing:
        console.warn(
            f"{flag_of('preprocess')} {config.preprocess}: the weights were trained with {weights.preprocessing}"
            f" ({_input(weights.preprocessing)}; now {_input(config.preprocess)})"
        )
    return config, weights


def weights_again(config: TrainConfig, record: dict[str, Any] | None) -> StartingWeights | None:
    """The weights of a run that was stopped before its first save.

    Raises:
        PmtrainError: they can't be read, or have changed.
    """
    if config.weights is None:
        return None
    weights = read_weights(config.weights, config.layers)
    if record and record["sha256"] != weights.sha256:
        raise PmtrainError(
            f"{weights.path}: not the weights that the run began with: its SHA-256 is {weights.sha256[:12]}..., not"
            f" {shown(str(record['sha256']), 12)}...",
            "bring back the file, or start a new run",
        )
    return weights


def _input(preprocessing: str) -> str:
    statistics = PREPROCESSING[preprocessing].statistics
    if statistics is None:
        return "BGR from -1 to 1"
    if isinstance(statistics, tuple):
        return "RGB by ImageNet's mean and std"
    return (
        "RGB by the training set's mean and std" if statistics == "own" else "RGB, each image by its own mean and std"
    )
