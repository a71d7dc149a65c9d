"""The commands and the Python of the README and the docs run, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import ROOT, SMALL

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_README = 200  # lines


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page that are in a language, or in none."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[str]:
    """What a reader types: the lines behind `$ pmtrain`."""
    return [line[2:] for block in blocks(page) for line in block.splitlines() if line.startswith("$ pmtrain ")]


def prepare(folder: Path) -> None:
    """The files that the pages speak of, SYNTHETIC: noise with a bright or a dark disc."""
    rng = np.random.default_rng(0)

    def draw(path: Path, positive: bool) -> None:
        image = rng.integers(60, 160, (40, 44, 3), np.uint8)
        cv2.circle(image, (22, 20), 9, (230, 230, 230) if positive else (20, 20, 20), -1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())

    rows = ["file,grade,sex,patient"]
    for number in range(1, 25):
        positive = number % 2 == 1
        draw(folder / "my-images" / ("glaucoma" if positive else "healthy") / f"{number}.png", positive)
        draw(folder / "photographs" / f"V{number:04}.jpg", positive)
        grade = (2 + number // 2 % 3) if positive else number // 2 % 2
        rows.append(f"V{number:04}.jpg,{grade},{'fm'[number // 3 % 2]},p{number % 16}")
        for data in ("ichallenge-pm", "ichallenge-pm-224"):
            draw(folder / "data" / data / "PALM-Training400" / f"{'P' if positive else 'N'}{number:04}.jpg", positive)
            draw(folder / "data" / data / "PALM-Validation400" / f"V{number:04}.jpg", positive)
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for data in ("ichallenge-pm", "ichallenge-pm-224"):
        labels = [f"V{number:04}.jpg,{number % 2}" for number in range(1, 25)]
        table = folder / "data" / data / "labels.csv"
        table.write_text("\n".join(["imgName,Label", *labels]) + "\n", encoding="utf-8")


def shortened(command: str, trained: bool) -> list[str]:
    """The command as it stands, on small images; only the first training is a whole one, and learns."""
    words = shlex.split(command)[1:]
    if words[0] == "train" and "--resume" not in words:
        words += [
            *SMALL,
            "--no-shortcut",
            *(["--epochs", "1" if trained else "10"] if "--epochs" not in words else []),
            *(["--layers", "18"] if not trained else []),
        ]
        if trained:
            words += ["--output", "runs/another", *(["--dry-run"] if "--dry-run" not in words else [])]
    if words[0] == "pretrain":
        words += ["--image-size", "32", "--epochs", "1", "--workers", "0"]
    return words


@pytest.mark.slow
def test_every_command_and_every_example_runs(tmp_path, monkeypatch):
    from pmtrain.cli import app

    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    trained, prepared = False, {*tmp_path.iterdir(), tmp_path / "runs"}
    for page in PAGES:
        for command in commands(page):
            result = CliRunner().invoke(app, shortened(command, trained))
            trained = trained or command.startswith("pmtrain train")
            # A check of data that finds something says so by its exit code.
            expected = {0, 1} if command.startswith("pmtrain data check") else {0}
            assert result.exit_code in expected, f"{page.name}: {command}\n{result.output}"
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), {})
        for made in set(tmp_path.iterdir()) - prepared:  # nothing is overwritten, and pages write to the same names
            shutil.rmtree(made) if made.is_dir() else made.unlink()


@pytest.mark.parametrize("page", [*PAGES, CHINESE, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=lambda page: page.name)
def test_a_page_opens_with_a_command(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and lines[1].startswith("```")


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_README


def test_the_chinese_readme_has_the_same_commands_and_links():
    assert [re.sub(r"# .*", "", block) for block in blocks(README)] == [
        re.sub(r"# .*", "", block) for block in blocks(CHINESE)
    ]
    links = [set(re.findall(r"\]\((docs/[^)]+)\)", page.read_text(encoding="utf-8"))) for page in (README, CHINESE)]
    assert links[0] == links[1]
