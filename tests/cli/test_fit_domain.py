"""`pmtrain fit-domain`, and what `predict` and `eval` say with the domain model beside the checkpoint."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pmtrain import load_classifier

QUIET = ("--workers", 0)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """As small_set, with 24 images in each of train, val and other; those of `other` are of another camera."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(1)
    for split in ("train", "val", "other"):
        for number in range(24):
            sick = number % 2
            image = cv2.GaussianBlur(rng.integers(60, 160, (36, 40, 3), np.uint8), (0, 0), 1.5)
            cv2.circle(image, (20, 18), 9, (230, 230, 230) if sick else (20, 20, 20), -1)
            if split == "other":
                image = (image * (0.6, 0.9, 1.0)).astype(np.uint8)
            home = root / "other/all" if split == "other" else root / "own" / split
            path = home / ("sick" if sick else "healthy") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return root


@pytest.fixture(scope="module")
def fitted(checkpoint, many, tmp_path_factory) -> Path:
    """The checkpoint with a domain model fitted by the command."""
    from typer.testing import CliRunner

    from pmtrain.cli import app

    home = tmp_path_factory.mktemp("fitted") / "best.pdparams"
    shutil.copy(checkpoint, home)
    shutil.copy(checkpoint.with_suffix(".json"), home.with_suffix(".json"))
    done = CliRunner().invoke(app, ["fit-domain", str(home), "--data", str(many / "own"), "--workers", "0"])
    assert done.exit_code == 0, done.stderr
    assert "domain model: fitted on 24 training and 24 validation images in" in done.stderr
    return home


@pytest.fixture(scope="module")
def mixed(many, tmp_path_factory) -> Path:
    """One of its own kind, a blank one, noise, and a broken file."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copy(many / "own/val/sick/1.png", folder / "own.png")
    cv2.imwrite(str(folder / "blank.png"), np.full((40, 40, 3), 90, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes((folder / "own.png").read_bytes()[:60])
    return folder


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {Path(row["file"]).name: row for row in csv.DictReader(io.StringIO(text))}


def test_a_refused_image_has_no_class_but_by_force(run_cli, fitted, mixed):
    done = run_cli("predict", fitted, mixed, *QUIET)
    rows = rows_of(done.stdout)
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "blank.png": "refused",
        "broken.png": "",
        "noise.png": "refused",
        "own.png": "in domain",
    }
    for name in ("blank.png", "noise.png"):
        assert (rows[name]["probability"], rows[name]["prediction"], rows[name]["familiarity"]) == ("", "", "0.0")
    assert rows["blank.png"]["reason"] == "blank: all pixels are nearly the same"
    assert rows["noise.png"]["reason"].startswith("unlike the training images: ")
    assert 0.05 <= float(rows["own.png"]["familiarity"]) <= 1 and rows["own.png"]["prediction"] in ("healthy", "sick")
    assert "of the kind trained on: 1 in domain, 2 refused (no class; --force gives it)" in done.stderr

    forced = rows_of(run_cli("predict", fitted, mixed, "--force", *QUIET).stdout)
    assert forced["own.png"] == rows["own.png"]
    assert forced["noise.png"]["prediction"] in ("healthy", "sick") and forced["noise.png"]["verdict"] == "refused"
    as_json = json.loads(run_cli("predict", fitted, mixed, "--format", "json", "--force", *QUIET).stdout)
    assert as_json["domain_model"] is True
    assert {Path(row["file"]).name: row["verdict"] or "" for row in as_json["predictions"]} == {
        name: row["verdict"] for name, row in forced.items()
    }


def test_a_submission_has_a_risk_for_every_image(run_cli, fitted, mixed):
    done = run_cli("predict", fitted, mixed, "--format", "palm", *QUIET)
    risks = {row["FileName"]: row["PM Risk"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert [name for name, risk in risks.items() if not risk] == ["broken.png"]


def test_both_backends_give_the_same_verdict(fitted, mixed, many):
    paths = [*sorted(mixed.glob("*.png")), *sorted((many / "other").rglob("*.png"))]
    by_paddle, by_any = (load_classifier(fitted, backend=name).predict(paths) for name in ("paddle", "auto"))
    assert [each.verdict for each in by_paddle] == [each.verdict for each in by_any]
    assert {each.verdict for each in by_any} >= {"in domain", "refused", None}


def test_a_checkpoint_copied_without_it_says_so(run_cli, fitted, mixed, tmp_path):
    shutil.copy(fitted, tmp_path / "copy.pdparams")
    shutil.copy(fitted.with_suffix(".json"), tmp_path / "copy.json")
    done = run_cli("predict", "copy.pdparams", mixed / "noise.png", *QUIET)
    assert done.stderr.startswith("no domain model: there is no copy.domain.safetensors beside the checkpoint")
    assert rows_of(done.stdout)["noise.png"]["verdict"] == ""


def test_eval_sets_other_data_beside_the_training_images(run_cli, fitted, many, tmp_path):
    shown = run_cli(
        *("eval", fitted, "--data", many / "other", "--split", "all", "--defer", 0.25, "--n-boot", 100),
        *("--output", tmp_path / "results", *QUIET),
    )
    assert shown.exit_code == 0, shown.stderr
    assert "set beside the training images: these images come from another camera or population" in shown.stdout
    assert "left to a person (--defer 0.25): the 6 most doubtful of 24 images" in shown.stdout
    written = json.loads((tmp_path / "results/metrics.json").read_text(encoding="utf-8"))
    assert written["domain"]["statistics"]["auc"] > 0.9
    assert sum(written["domain"]["verdicts"].values()) == 24
    assert len(written["selective"]["deferred"]) == 6
    assert [row["images"] for row in written["selective"]["curve"]] == [24, 22, 21, 19, 16, 12]


def test_each_of_several_networks_gets_its_own(run_cli, fitted, many, tmp_path):
    for name in ("a", "b"):
        shutil.copy(fitted, tmp_path / f"{name}.pdparams")
        shutil.copy(fitted.with_suffix(".json"), tmp_path / f"{name}.json")
    done = run_cli("fit-domain", "a.pdparams,b.pdparams", "--data", many / "own", *QUIET)
    assert done.exit_code == 0, done.stderr
    for name in ("a", "b"):
        made = tmp_path / f"{name}.domain.safetensors"
        assert made.read_bytes() == fitted.with_suffix(".domain.safetensors").read_bytes()


def test_too_few_images_are_said(run_cli, checkpoint, small_set, tmp_path):
    shutil.copy(checkpoint, tmp_path / "best.pdparams")
    shutil.copy(checkpoint.with_suffix(".json"), tmp_path / "best.json")
    done = run_cli("fit-domain", "best.pdparams", "--data", small_set, *QUIET)
    assert done.exit_code == 1
    assert "it needs 20 training and 20 validation images, and there are 12 and 8" in done.stderr
    assert not list(tmp_path.glob("*.domain.safetensors"))


@pytest.mark.slow
def test_a_training_ends_with_one_that_a_resumed_run_keeps(run_cli, many, mixed, tmp_path):
    options = ("--image-size", 32, "--layers", 18, "--epochs", 1, "--batch-size", 8, "--no-report", "--no-shortcut")
    done = run_cli("train", "--data", many / "own", "--output", "run", *options, *QUIET)
    assert done.exit_code == 0, done.stderr
    file = tmp_path / "run/best.domain.safetensors"
    first = file.read_bytes()
    file.unlink()
    assert run_cli("train", "--resume", "run").exit_code == 0
    assert file.read_bytes() == first
    assert rows_of(run_cli("predict", "run", mixed, *QUIET).stdout)["blank.png"]["verdict"] == "refused"
    done = run_cli("train", "--data", many / "own", "--output", "without", "--no-domain", *options, *QUIET)
    assert done.exit_code == 0 and not list((tmp_path / "without").glob("*.domain.*"))
