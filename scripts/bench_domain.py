"""Does a network's domain model refuse what isn't of its kind? Its verdicts on pictures of many kinds, as a table.

  python scripts/bench_domain.py runs/pm
  python scripts/bench_domain.py runs/a runs/b --kind cells=../malaria --kind "other camera"=../dr --only cells mr

`flagged` is the share that is called unusual or refused, `AUROC` that of the familiarity against the run's own
validation images. Kinds marked `judged` were made or found after the model's cuts had been set; the others were looked
at while they were chosen. Pictures come from packages where those are installed (scikit-image, nilearn; scikit-learn,
matplotlib and pydicom are pmtrain's own); all others are SYNTHETIC, drawn here.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIDE = 320  # pixels of a drawn picture
COUNT = 60  # of each drawn kind
Picture = np.ndarray | Path
Draw = Callable[[np.random.Generator], np.ndarray]


def package(name: str) -> Path:
    """The folder of an installed package.

    Raises:
        ModuleNotFoundError: it isn't installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(name)
    return Path(next(iter(found.submodule_search_locations)))


def parts(images: Sequence[np.ndarray], each: int, shares: tuple[float, float] = (0.25, 0.5)) -> list[np.ndarray]:
    """Square parts of pictures, `shares` of the shorter side."""
    rng, found = np.random.default_rng(0), []
    for image in images:
        height, width = image.shape[:2]
        for _ in range(each):
            side = int(rng.uniform(*shares) * min(height, width))
            y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
            found.append(image[y : y + side, x : x + side])
    return found


def skimage(*names: str) -> list[np.ndarray]:
    return [cv2.imread(str(package("skimage") / "data" / name)) for name in names]


def natural() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")
    return parts([*skimage(*names), *(image[..., ::-1] for image in load_sample_images().images)], 25)


def faces() -> list[np.ndarray]:
    values = np.load(package("skimage") / "data" / "lfw_subset.npy")[:100]
    return [_coloured(255 * face) for face in values]


def digits() -> list[np.ndarray]:
    from sklearn.datasets import load_digits

    return [_coloured(15.9 * digit) for digit in load_digits().images[:100]]


def dicom() -> list[Picture]:
    return sorted((package("pydicom") / "data").rglob("*.dcm"))


def magnetic_resonance() -> list[np.ndarray]:
    """Slices of a T1 head in three planes; black around it."""
    import gzip

    file = package("nilearn") / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    content = gzip.decompress(file.read_bytes())
    shape, start = np.frombuffer(content, "<i2", 3, 42), int(np.frombuffer(content, "<f4", 1, 108)[0])
    kind = {2: "u1", 4: "<i2", 16: "<f4"}[int(np.frombuffer(content, "<i2", 1, 70)[0])]
    volume = np.frombuffer(content, kind, int(np.prod(shape)), start).reshape(shape, order="F").astype(np.float32)
    found = []
    for axis, size in enumerate(shape):
        for place in np.linspace(0.25 * size, 0.75 * size, 20).astype(int):
            piece = np.rot90(np.take(volume, place, axis))
            found.append(_coloured(255 * piece / volume.max()))
    return found


def coloured_maps() -> list[np.ndarray]:
    """Slices of magnetic resonance under a map of activity: red to yellow spots, which are drawn."""
    found = []
    for place, grey in enumerate(magnetic_resonance()):
        rng, (height, width) = np.random.default_rng(place), grey.shape[:2]
        heat = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(2, 6))):
            centre = int(width * rng.uniform(0.3, 0.7)), int(height * rng.uniform(0.3, 0.7))
            cv2.circle(heat, centre, int(rng.uniform(0.02, 0.07) * width), 1, -1)
        heat = cv2.GaussianBlur(heat, (0, 0), 2)[..., None]
        found.append((grey * (1 - heat) + heat * np.array([20, 255 * rng.random(), 240])).astype(np.uint8))
    return found


def histology_through_an_eyepiece() -> list[np.ndarray]:
    found = []
    for place, image in enumerate(parts(skimage("ihc.png"), COUNT, (0.4, 0.9))):
        found.append(_in_a_disc(cv2.resize(image, (SIDE, SIDE)), np.random.default_rng(place)))
    return found


def charts() -> list[np.ndarray]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rng, found = np.random.default_rng(0), []
    for place in range(40):
        figure = Figure(figsize=(6, 4))
        axes = figure.add_subplot()
        if place % 4 == 0:
            axes.plot(rng.normal(size=100).cumsum())
        elif place % 4 == 1:
            axes.scatter(rng.normal(size=200), rng.normal(size=200), c=rng.random(200))
        elif place % 4 == 2:
            axes.imshow(rng.random((20, 20)), cmap=("viridis", "magma", "gray", "hot")[place // 4 % 4])
        else:
            axes.bar(range(10), rng.random(10))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        found.append(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., 2::-1]))
    return found


def blanks() -> list[np.ndarray]:
    colours = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (20, 40, 200), (30, 70, 160)]
    found = [np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours]
    for colour in ((30, 70, 160), (255, 255, 255)):
        found.append(cv2.circle(np.zeros((SIDE, SIDE, 3), np.uint8), (SIDE // 2, SIDE // 2), SIDE // 2 - 3, colour, -1))
    return found


def _coloured(values: np.ndarray) -> np.ndarray:
    """(H, W) from 0 to 255 -> grey uint8 (H, W, 3)."""
    return np.repeat(np.clip(values, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _clouds(rng: np.random.Generator, size: float, channels: int = 1) -> np.ndarray:
    """(SIDE, SIDE, channels) smooth noise of mean 0 and standard deviation 1; `size` of its spots in pixels."""
    noise = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE, channels)).astype(np.float32), (0, 0), size)
    return ((noise - noise.mean()) / noise.std()).reshape(SIDE, SIDE, channels)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y from -1 to 1."""
    x, y = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    return x, y


def _in_a_disc(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What an eyepiece or a dermatoscope shows: a round picture on black."""
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.circle(mask, (SIDE // 2, SIDE // 2), int(SIDE * rng.uniform(0.44, 0.5)), 1, -1)
    return (image * cv2.GaussianBlur(mask, (0, 0), 2)[..., None]).astype(np.uint8)


def noise(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return np.clip(128 + 40 * _clouds(rng, rng.uniform(0.5, 30), 3), 0, 255).astype(np.uint8)


def screenshot(rng: np.random.Generator) -> np.ndarray:
    dark = rng.random() < 0.5
    image = np.full((700, 1100, 3), 30 if dark else 250, np.uint8)
    cv2.rectangle(image, (0, 0), (1100, 40), (90, 60, 40), -1)
    for y in range(70, 680, 22):
        text = "".join(rng.choice(list("abcdefghij klmnop qrst"), int(rng.integers(10, 90))))
        cv2.putText(image, text, (20, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (200, 220, 200) if dark else (20, 20, 20), 1)
    return image


def radiograph(rng: np.random.Generator) -> np.ndarray:
    """Like a chest X-ray: dark lungs beside a bright heart, ribs, noise; now and then black bars."""
    x, y = _grid()
    image = rng.uniform(130, 190) + 12 * _clouds(rng, 40)[..., 0]
    for side in (-1, 1):
        lung = ((x - side * rng.uniform(0.38, 0.46)) / 0.33) ** 2 + ((y + 0.05) / rng.uniform(0.6, 0.75)) ** 2
        image -= rng.uniform(70, 110) / (1 + np.exp(12 * (lung - 1)))
    for place in np.linspace(-0.7, 0.6, 8):
        image += 14 * np.exp(-(((y - place - 0.25 * np.abs(x) ** 1.5) / 0.035) ** 2))
    image += 40 * np.exp(-((x / 0.12) ** 2)) + rng.normal(0, 4, image.shape)
    if rng.random() < 0.4:
        image[:, : SIDE // 12] = image[:, -SIDE // 12 :] = 0
    return _coloured(image)


def tomogram(rng: np.random.Generator) -> np.ndarray:
    """Like a CT slice: an ellipse with a bright rim and soft organs, on black."""
    x, y = _grid()
    radius = np.hypot(x / rng.uniform(0.8, 0.95), y / rng.uniform(0.6, 0.95))
    image = np.where(radius < 1, rng.uniform(80, 130) + 15 * _clouds(rng, 18)[..., 0], 0)
    image += rng.uniform(60, 130) * np.exp(-(((radius - rng.uniform(0.8, 0.93)) / 0.05) ** 2))
    for _ in range(4):
        cx, cy = rng.uniform(-0.4, 0.4, 2)
        image += rng.uniform(-50, 60) * (np.hypot(x - cx, y - cy) < rng.uniform(0.08, 0.25)) * (radius < 0.85)
    return _coloured(image + rng.normal(0, 3, image.shape) * (radius < 1))


def ultrasound(rng: np.random.Generator) -> np.ndarray:
    """Like ultrasound: a fan of speckle on black, now and then with coloured flow and marks."""
    x, y = _grid()
    down, angle = np.hypot(x, y + 1.1), np.arctan2(x, y + 1.1)
    inside = (np.abs(angle) < rng.uniform(0.5, 0.75)) & (down > 0.25) & (down < 1.95)
    speckle = rng.rayleigh(1, (SIDE, SIDE)).astype(np.float32)
    image = cv2.GaussianBlur(speckle, (0, 0), 1.5) * (60 + 25 * _clouds(rng, 25)[..., 0]) * inside
    picture = _coloured(image)
    if rng.random() < 0.5:
        cx, cy = (int(value) for value in rng.uniform(0.4, 0.6, 2) * SIDE)
        cv2.ellipse(picture, (cx, cy), (22, 9), float(rng.uniform(0, 180)), 0, 360, (30, 40, 220), -1)
        cv2.ellipse(picture, (cx + 20, cy + 14), (18, 7), 30, 0, 360, (220, 60, 20), -1)
        cv2.putText(picture, "12 cm  MI 0.9", (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (80, 220, 220), 1)
    return picture


def tomography_of_coherence(rng: np.random.Generator) -> np.ndarray:
    """Like OCT: bright bent layers and speckle on dark."""
    x, y = _grid()
    bend = rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.25, 0.25) * x**2 - 0.25 * np.exp(-((x / 0.15) ** 2))
    image = np.full((SIDE, SIDE), 18.0)
    for place, bright, width in ((-0.15, 110, 0.05), (0.05, 60, 0.08), (0.25, 150, 0.04), (0.4, 80, 0.15)):
        image += bright * np.exp(-(((y - place - bend) / width) ** 2))
    return _coloured(image * cv2.GaussianBlur(rng.rayleigh(0.8, (SIDE, SIDE)).astype(np.float32), (0, 0), 0.8))


def skin(rng: np.random.Generator) -> np.ndarray:
    """Like dermoscopy: a brown mole on skin, with hairs, round on black."""
    x, y = _grid()
    tone = np.array([rng.uniform(110, 170), rng.uniform(130, 185), rng.uniform(180, 235)])
    image = tone + 8 * _clouds(rng, 12, 3)
    edge = np.hypot(x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)) - 0.12 * _clouds(rng, 25)[..., 0]
    inside = 1 / (1 + np.exp(30 * (edge - rng.uniform(0.25, 0.5))))[..., None]
    image = image * (1 - inside) + inside * (np.array([40, 60, 95]) + 18 * _clouds(rng, 6))
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 12))):
        start, end = rng.integers(0, SIDE, (2, 2)).tolist()
        cv2.line(image, start, end, (30, 35, 45), 1, cv2.LINE_AA)
    return _in_a_disc(image, rng)


def endoscopy(rng: np.random.Generator) -> np.ndarray:
    """Like endoscopy: red folds around a dark lumen, with reflections, in an octagon on black."""
    x, y = _grid()
    depth = np.hypot(x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3))
    tone = np.array([rng.uniform(50, 90), rng.uniform(70, 115), rng.uniform(150, 220)])
    light = (
        0.35 + 0.65 * (1 - np.exp(-((depth / 0.45) ** 2))) + 0.12 * np.sin(14 * depth + 2 * _clouds(rng, 30)[..., 0])
    )
    image = tone * light[..., None] * (1 + 0.08 * _clouds(rng, 8))
    image[_clouds(rng, 3)[..., 0] > 2.6] = 250
    octagon = (np.abs(x) < 0.95) & (np.abs(y) < 0.95) & (np.abs(x) + np.abs(y) < 1.45)
    return np.clip(image * octagon[..., None], 0, 255).astype(np.uint8)


class Kind(NamedTuple):
    """A kind of pictures: made at once, or drawn one by one; `judged`: kept aside while the cuts were chosen."""

    pictures: Callable[[], Sequence[Picture]]
    judged: bool = False


def drawn(draw: Draw) -> Callable[[], list[np.ndarray]]:
    """COUNT pictures of a kind."""
    return lambda: [draw(np.random.default_rng(place)) for place in range(COUNT)]


KINDS = {
    "parts of photographs": Kind(natural),
    "histology": Kind(lambda: parts(skimage("ihc.png"), 100)),
    "grey textures": Kind(
        lambda: parts(skimage("brick.png", "grass.png", "gravel.png", "moon.png", "coins.png", "camera.png"), 20)
    ),
    "text": Kind(lambda: parts(skimage("page.png", "text.png"), 30)),
    "faces": Kind(faces),
    "digits": Kind(digits),
    "charts": Kind(charts),
    "dicom": Kind(dicom),
    "blanks": Kind(blanks),
    "noise, SYNTHETIC": Kind(drawn(noise)),
    "screenshots, SYNTHETIC": Kind(drawn(screenshot)),
    "mr": Kind(magnetic_resonance, judged=True),
    "mr under a coloured map": Kind(coloured_maps, judged=True),
    "histology through an eyepiece": Kind(histology_through_an_eyepiece, judged=True),
    "x-ray, SYNTHETIC": Kind(drawn(radiograph), judged=True),
    "ct, SYNTHETIC": Kind(drawn(tomogram), judged=True),
    "ultrasound, SYNTHETIC": Kind(drawn(ultrasound)),
    "oct, SYNTHETIC": Kind(drawn(tomography_of_coherence), judged=True),
    "dermoscopy, SYNTHETIC": Kind(drawn(skin), judged=True),
    "endoscopy, SYNTHETIC": Kind(drawn(endoscopy), judged=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="checkpoints with a domain model, or run folders")
    parser.add_argument("--kind", action="append", default=[], metavar="NAME=FOLDER", help="further pictures")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these kinds alone, by the first letters of their names"
    )
    parser.add_argument("--save", type=Path, help="write some pictures of each kind into this folder, to look at")
    options = parser.parse_args()
    kinds = dict(KINDS)
    for given in options.kind:
        name, _, folder = given.partition("=")
        kinds[name] = Kind(lambda folder=folder: sorted(each for each in Path(folder).rglob("*") if each.is_file()))
    if options.only:
        kinds = {name: kind for name, kind in kinds.items() if name.startswith(tuple(options.only))}
    pictures = {}
    for name, kind in kinds.items():
        try:
            pictures[name] = kind.pictures()
        except ModuleNotFoundError as error:
            print(f"{name}: left out, {error.name} isn't installed", file=sys.stderr)
    if options.save:
        save(options.save, pictures)
    for run in options.runs:
        measure(run, pictures)
    return 0


def measure(run: Path, pictures: dict[str, Sequence[Picture]]) -> None:
    """Print the table of a run."""
    from sklearn.metrics import roc_auc_score

    from pmtrain.config import EvalConfig, load_config
    from pmtrain.evaluation.inference.classifier import load_classifier
    from pmtrain.evaluation.scores.chosen_images import choose_images
    from pmtrain.runs.checkpoint import load_checkpoint

    classifier = load_classifier(run)
    if classifier.domain is None:
        raise SystemExit(f"{run}: {classifier.no_domain}")
    own_images = choose_images(load_checkpoint(run), load_config(EvalConfig, {})).samples
    own = [sample.path for sample in own_images]
    print(f"\n{run}, {classifier.info.image_size} px\n")
    print("| kind | pictures | flagged | refused | AUROC | unreadable |\n|---|---|---|---|---|---|")
    strange: list[float] = []
    for name, images in {"own validation images": own, **pictures}.items():
        found = classifier.predict(list(images))
        verdicts = Counter(each.verdict for each in found if each.error is None)
        n, unreadable = sum(verdicts.values()), sum(each.error is not None for each in found)
        values = [-each.familiarity for each in found if each.familiarity is not None]
        strange = strange or values
        area = roc_auc_score(np.repeat([0, 1], [len(strange), n]), strange + values)
        judged = " (judged)" if name in KINDS and KINDS[name].judged else ""
        flagged = 1 - verdicts["in domain"] / n
        print(
            f"| {name}{judged} | {n} | {flagged:.1%} | {verdicts['refused'] / n:.1%} | {area:.4f} | {unreadable} |",
            flush=True,
        )


def save(folder: Path, pictures: dict[str, Sequence[Picture]]) -> None:
    """Write a row of drawn pictures of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in pictures.items():
        shown = [cv2.resize(image, (SIDE, SIDE)) for image in images[:8] if isinstance(image, np.ndarray)]
        if shown:
            cv2.imwrite(str(folder / f"{name.split(',')[0].replace(' ', '-')}.png"), np.hstack(shown))


if __name__ == "__main__":
    sys.exit(main())
