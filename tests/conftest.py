"""What tests of several modules share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pmtrain.system.hardware import thread_count

ROOT = Path(__file__).parents[1]

# A shell starts what runs in its background deaf to Ctrl-C, and so would be every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Iterator[Path]:
    """The tests' own cache of decoded images, their processes' too: nothing is written to anybody's home."""
    folder = tmp_path_factory.mktemp("cache") / "图 cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PMTRAIN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("PMTRAIN_TEST_DATA")
    if not folder:
        pytest.skip("PMTRAIN_TEST_DATA is unset: no real images to test on")
    return Path(folder)


@pytest.fixture(scope="session")
def reference(real_data) -> Path:
    """The folder of the notes' own printed output, beside the real data sets."""
    folder = real_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"{folder} isn't there: no printed output of the notes to compare with")
    return folder


@pytest.fixture(scope="session")
def small_set(tmp_path_factory) -> Path:
    """A data set that a network can learn: 12 + 8 images of 40 x 36, bright centres against dark ones, split/class."""
    root = tmp_path_factory.mktemp("small") / "photographs of eyes"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 8)):
        for number in range(count):
            sick = number % 2
            image = rng.integers(60, 160, (36, 40, 3), np.uint8)
            cv2.circle(image, (20, 18), 9, (230, 230, 230) if sick else (20, 20, 20), -1)
            path = root / split / ("sick" if sick else "healthy") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return root


# Small images, few steps, the smallest network: the options under which a training takes seconds.
SMALL = ("--layers", "18", "--image-size", "32", "--batch-size", "4", "--workers", "0", "--log-every", "1")
QUICK = ("--no-report", "--no-shortcut", *SMALL)
# Every step sees every image of small_set: the loss falls steadily, whatever the last bits are.
STEADY = (*QUICK, "--batch-size", "12", "--lr", "0.0005", "--epochs", "25")


@pytest.fixture(scope="session")
def checkpoint(small_set, tmp_path_factory) -> Path:
    """A ResNet-18 for 32 pixels that never was trained, whose scores on `small_set` differ and lie about 0.4."""
    from pmtrain.data.images.read import read_image
    from pmtrain.data.preprocessing.preprocess import Preprocess
    from pmtrain.models import build_model
    from pmtrain.runs.checkpoint import save_checkpoint
    from pmtrain.runs.formats.state_dict import dump_state
    from pmtrain.runs.model_state import to_arrays
    from pmtrain.runs.records import notes_info
    from pmtrain.system.framework import paddle

    preprocess = Preprocess("notes", 32)
    images = preprocess.normalise(
        np.stack([preprocess.resize(read_image(path)) for path in sorted(small_set.rglob("*.png"))])
    )
    paddle.seed(0)
    model = build_model(18)
    # Small residual branches and running statistics that fit the images, so that scores are well conditioned.
    for block in (block for blocks in model.stages for block in blocks):
        weight = block.path[-1]._batch_norm.weight
        weight.set_value(paddle.full_like(weight, 0.1))
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = 0.3  # so that few passes are enough
    with paddle.no_grad():
        for _ in range(8):
            model(paddle.to_tensor(images))
        model.eval()
        logits = model(paddle.to_tensor(images)).numpy()
        model.out.bias.set_value(paddle.to_tensor([float(np.log(0.4 / 0.6) - np.median(logits))], "float32"))
    info = notes_info(18).model_copy(
        update={"image_size": 32, "class_names": ("healthy", "sick"), "threshold": 0.4, "threshold_rule": "youden"}
    )
    path = tmp_path_factory.mktemp("checkpoint") / "best.pdparams"
    save_checkpoint(path, dump_state(*to_arrays(model.state_dict())), info)
    return path


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the files decoded in this process, in order."""
    from pmtrain.data.loading import workers

    names: list[str] = []
    real = workers.decode

    def counting(path, *rest):
        names.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(workers, "decode", counting)
    return names


@pytest.fixture
def run_cli(tmp_path, monkeypatch):
    """run_cli("train", ...) runs a command in this process, in an empty folder; gives exit_code, stdout, stderr."""
    from pmtrain.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PMTRAIN_DEBUG", "")
    # A command's --threads is for that command, and not for the processes that later tests start.
    monkeypatch.setenv("OMP_NUM_THREADS", str(thread_count()))

    def run(*arguments: object):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def run_process(tmp_path):
    """run_process("train", ...) runs the real command in a process of its own, in an empty folder."""

    def run(*arguments: object, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(*arguments),
            capture_output=True,
            cwd=options.pop("cwd", tmp_path),
            env=environment(env or {}),
            timeout=600,
            **options,
        )

    return run


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pmtrain", *map(str, arguments)]


def environment(more: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path} | more
