"""`pmtrain eval`: the figures that training printed, the files it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score

from pmtrain.evaluation import charts
from pmtrain.metrics import MEASURES
from tests.conftest import STEADY, command, environment


@pytest.fixture(scope="module")
def run(small_set, tmp_path_factory) -> tuple[Path, str]:
    """A finished run, long enough for its running statistics: its folder and its best epoch's validation line."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    arguments = ("train", "--data", small_set, "--output", folder, *STEADY)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment({}), timeout=600)
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if line.startswith("[validation]")]
    return folder, printed[json.loads((folder / "best.json").read_text())["epoch"]]


def test_it_gives_the_figures_that_training_printed(run_cli, run, small_set):
    folder, printed = run
    for options in ((folder,), (folder / "best.pdparams", "--data", small_set)):
        done = run_cli("eval", *options, "--workers", 0)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.splitlines()[0] == printed
    # In batches of another size a logit may differ in its last bit.
    done = run_cli("eval", folder, "--batch-size", 3, "--workers", 0)
    figures = [
        [float(figure) for figure in re.findall(r"[0-9.]+", line)] for line in (done.stdout.splitlines()[0], printed)
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4, abs=1e-4)


def test_its_figures_are_those_of_scikit_learn_on_its_predictions(run_cli, run, tmp_path):
    done = run_cli("eval", run[0], "--workers", 0, "--output", tmp_path / "结果")
    with open(tmp_path / "结果" / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "patient", "label", "logit", "probability", "prediction"]
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    labels = np.array([int(row["label"]) for row in rows])
    assert [("sick" in row["file"]) == (label == 1) for row, label in zip(rows, labels, strict=True)] == [True] * 8
    probabilities = np.array([float(row["probability"]) for row in rows])
    assert expit([float(row["logit"]) for row in rows]) == pytest.approx(probabilities)
    written = json.loads((tmp_path / "结果" / "metrics.json").read_text(encoding="utf-8"))
    called = probabilities >= written["threshold"]["value"]
    assert [row["prediction"] for row in rows] == [str(int(positive)) for positive in called]
    expected = {
        "Accuracy": accuracy_score(labels, called),
        "AUC": roc_auc_score(labels, probabilities),
        "Sensitivity": recall_score(labels, called),
        "Specificity": recall_score(labels, called, pos_label=0),
    }
    table = table_of(done.stdout)
    assert list(table) == [measure.title for measure in MEASURES.values()]
    assert {name: table[name].split()[0] for name in expected} == {name: f"{v:.4f}" for name, v in expected.items()}
    lines = done.stdout.splitlines()
    assert lines[1] == "images: 8 (4 sick, 4 healthy), prevalence 0.5000"
    assert lines[2].startswith("threshold: 0.")
    assert written["metrics"]["auc"]["value"] == pytest.approx(expected["AUC"])
    assert written["metrics"]["auc"]["analytic_interval"]["method"].startswith(("DeLong", "Newcombe"))
    away = np.array([float(row["logit"]) for row in rows]) * np.where(labels == 1, -1, 1)
    assert written["loss"] == pytest.approx(np.mean(np.logaddexp(0, away)))  # of a probability of 1 the log is lost
    (tn, fp), (fn, tp) = confusion_matrix(labels, called)
    assert written["confusion_matrix"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert (written["split"], written["bootstrap_unit"], written["seed"], written["n_boot"]) == (
        "val",
        "image",
        0,
        2000,
    )
    assert re.fullmatch("[0-9a-f]{64}", written["data_fingerprint"])


def table_of(stdout: str) -> dict[str, str]:
    """The lines of the measures: title -> what follows it."""
    titles = "|".join(re.escape(measure.title) for measure in MEASURES.values())
    return dict(re.findall(rf"^({titles}) +(.+)$", stdout, re.MULTILINE))


def test_intervals_follow_the_options(run_cli, run):
    first, second, other = (
        run_cli("eval", run[0], "--workers", 0, "--n-boot", 200, "--seed", seed).stdout for seed in (1, 1, 2)
    )
    assert first == second != other
    wide, narrow = (
        re.findall(r"CI (\S+) to (\S+)\)", run_cli("eval", run[0], "--workers", 0, "--ci", level).stdout)
        for level in (0.99, 0.5)
    )
    assert len(wide) == len(narrow) > 3
    assert any(wide[i] != narrow[i] for i in range(len(wide)))
    assert all(float(w[0]) <= float(n[0]) <= float(n[1]) <= float(w[1]) for w, n in zip(wide, narrow, strict=True))


def test_images_that_chose_the_checkpoint_mark_the_figures_exploratory(run_cli, run, small_set, tmp_path):
    own = run_cli("eval", run[0], "--workers", 0)
    assert "EXPLORATORY: the epoch and the stored threshold were chosen on these 8 images" in own.stdout
    learned = run_cli("eval", run[0], "--workers", 0, "--split", "train")
    assert "EXPLORATORY: the network was trained on 12 of these 12 images" in learned.stdout
    shutil.copytree(small_set / "val", tmp_path / "others")
    copied = run_cli("eval", run[0], "--data", tmp_path / "others", "--workers", 0)
    assert "EXPLORATORY: the epoch and the stored threshold were chosen on these 8 images" in copied.stdout
    for path in (tmp_path / "others").rglob("*.png"):  # now others in truth
        mirrored = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[:, ::-1]
        path.write_bytes(cv2.imencode(".png", mirrored)[1].tobytes())
    fresh = run_cli("eval", run[0], "--data", tmp_path / "others", "--workers", 0, "--output", "fresh")
    assert fresh.exit_code == 0, fresh.stderr
    assert "EXPLORATORY" not in fresh.stdout
    assert json.loads((tmp_path / "fresh/metrics.json").read_text())["exploratory"] is False
    options = ("--data", tmp_path / "others", "--workers", 0)
    tuned = run_cli("eval", run[0], *options, "--threshold", "youden", "--output", "tuned")
    assert "EXPLORATORY: the threshold was chosen on these images" in tuned.stdout
    written = json.loads((tmp_path / "tuned/metrics.json").read_text())
    assert (written["exploratory"], written["threshold"]["rule"]) == (True, "youden")
    assert "8 images only" in tuned.stderr
    given = run_cli("eval", run[0], *options, "--threshold", 0.25)
    assert "threshold: 0.25 (as given); the accuracy above is at 0.5" in given.stdout
    assert "EXPLORATORY" not in given.stdout


@pytest.mark.parametrize("rule", ["best", "2", "sensitivity=0", "youden=1"])
def test_a_threshold_that_is_none_is_refused(run_cli, run, rule):
    done = run_cli("eval", run[0], "--threshold", rule)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--threshold {rule!r}" in done.stderr
    assert "sensitivity=0.95" in done.stderr


def test_patients_are_resampled_whole_where_they_are_known(run_cli, run, small_set, tmp_path):
    files = sorted((small_set / "val").glob("*/*.png"))
    rows = [f"{file},{file.parent.name},{number // 2}\n" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("path,label,patient\n" + "".join(rows))
    done = run_cli("eval", run[0], "--data", tmp_path / "labels.csv", "--workers", 0, "--output", "out")
    assert done.exit_code == 0, done.stderr
    assert "images: 8 of 4 patients (4 sick, 4 healthy)" in done.stdout
    assert "percentile bootstrap by patient (4), 2000 resamples, seed 0" in done.stdout
    assert "Wilson" not in done.stdout
    with open(tmp_path / "out/predictions.csv", newline="", encoding="utf-8") as file:
        assert sorted(row["patient"] for row in csv.DictReader(file)) == sorted("00112233")
    assert json.loads((tmp_path / "out/metrics.json").read_text())["patients"] == 4


def test_tta_averages_the_logits_of_an_image_and_its_mirror_image(run_cli, run, small_set, tmp_path):
    for file in (small_set / "val").glob("*/*.png"):
        turned = tmp_path / "turned" / file.parent.name / file.name
        turned.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.resize(cv2.imread(str(file)), (32, 32))  # before turning: resizing 40 pixels isn't symmetric
        for folder, content in (("plain", image), ("turned", image[:, ::-1])):
            target = tmp_path / folder / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(cv2.imencode(".png", content)[1].tobytes())
    logits = {}
    for name, data, options in (("plain", "plain", ()), ("turned", "turned", ()), ("tta", "plain", ("--tta",))):
        done = run_cli("eval", run[0], "--data", tmp_path / data, "--workers", 0, "--output", f"out-{name}", *options)
        assert done.exit_code == 0, done.stderr
        assert ("scores: mean logit of each image and its mirror image" in done.stdout) == (name == "tta")
        with open(f"out-{name}/predictions.csv", newline="", encoding="utf-8") as file:
            logits[name] = np.array([float(row["logit"]) for row in csv.DictReader(file)])
    assert logits["tta"] == pytest.approx((logits["plain"] + logits["turned"]) / 2, abs=1e-4)
    assert np.abs(logits["plain"] - logits["turned"]).max() > 1e-3
    assert json.loads(Path("out-tta/metrics.json").read_text())["views"] == ["as it is", "mirrored"]


def test_tta_views_average_turns_or_sizes(run_cli, run, small_set, tmp_path):
    def logits(name: str, checkpoint: Path, data: Path, *options: object) -> np.ndarray:
        done = run_cli("eval", checkpoint, "--data", data, "--workers", 0, "--output", name, *options)
        assert done.exit_code == 0, done.stderr
        assert ("scores: mean logit of each image" in done.stdout) == bool(options)
        with open(f"{name}/predictions.csv", newline="", encoding="utf-8") as file:
            return np.array([float(row["logit"]) for row in csv.DictReader(file)])

    for turn in range(4):
        for file in (small_set / "val").glob("*/*.png"):
            image = cv2.resize(cv2.imread(str(file)), (32, 32))  # before turning: resizing 40 pixels isn't symmetric
            target = tmp_path / f"turn{turn}" / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(cv2.imencode(".png", np.rot90(image, turn))[1].tobytes())
    turns = [logits(f"out{turn}", run[0], tmp_path / f"turn{turn}") for turn in range(4)]
    found = logits("turns", run[0], tmp_path / "turn0", "--tta-views", "turns")
    assert found == pytest.approx(np.mean(turns, axis=0), abs=1e-4)
    assert np.abs(turns[0] - turns[1]).max() > 1e-3

    larger = tmp_path / "larger"  # the same weights for images of 9/8 of 32 pixels
    larger.mkdir()
    side = json.loads((run[0] / "best.json").read_text(encoding="utf-8"))
    assert side["image_size"] == 32
    (larger / "best.json").write_text(json.dumps(side | {"image_size": 36}), encoding="utf-8")
    (larger / "best.pdparams").write_bytes((run[0] / "best.pdparams").read_bytes())
    at_36 = logits("at_36", larger / "best.pdparams", tmp_path / "turn0")
    found = logits("scales", run[0], tmp_path / "turn0", "--tta-views", "scales")
    assert found == pytest.approx((turns[0] + at_36) / 2, abs=1e-4)
    assert np.abs(turns[0] - at_36).max() > 1e-3
    assert json.loads(Path("scales/metrics.json").read_text())["views"] == ["as it is", "at 9/8 of the size"]


def test_charts_are_written_beside(run_cli, run, tmp_path):
    done = run_cli("eval", run[0], "--workers", 0, "--n-boot", 100, "--output", "with")
    assert done.exit_code == 0, done.stderr
    assert "6 charts" in done.stderr
    assert {file.name for file in Path("with").iterdir()} == {"predictions.csv", "metrics.json", *charts.FILES}
    assert b"EXPLORATORY" in Path("with/roc.svg").read_bytes()


def test_subgroups_are_measured_each_by_itself(run_cli, run, small_set, tmp_path):
    files = sorted((small_set / "val").glob("*/*.png"))
    sexes = ["f", "m", "f", "", "m", "f", "m", "f"]
    rows = [f"{file},{file.parent.name},{sex},{n}\n" for n, (file, sex) in enumerate(zip(files, sexes, strict=True))]
    (tmp_path / "labels.csv").write_text("path,label,性别,age\n" + "".join(rows), encoding="utf-8")
    options = ("--data", tmp_path / "labels.csv", "--workers", 0)
    done = run_cli("eval", run[0], *options, "--group-by", "性别", "--output", "out")
    assert done.exit_code == 0, done.stderr
    assert re.findall(r"^性别 = (\S+): (\d)", done.stdout, re.MULTILINE) == [("(empty)", "1"), ("f", "4"), ("m", "3")]
    written = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    with open(tmp_path / "out/predictions.csv", newline="", encoding="utf-8") as file:
        rows = [row for row, sex in zip(csv.DictReader(file), sexes, strict=True) if sex == "f"]
    of_f = written["subgroups"]["f"]["metrics"]
    assert of_f["auc"]["value"] == roc_auc_score(
        [int(row["label"]) for row in rows], [float(row["probability"]) for row in rows]
    )
    assert of_f["accuracy"]["value"] == np.mean([row["label"] == row["prediction"] for row in rows])
    assert of_f["accuracy"]["interval"]["low"] <= of_f["accuracy"]["value"]
    assert written["subgroups"][""]["metrics"]["auc"]["value"] is None
    refused = run_cli("eval", run[0], *options, "--group-by", "sex")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "it has 性别, age" in refused.stderr
    none = run_cli("eval", run[0], "--workers", 0, "--group-by", "sex")
    assert (none.exit_code, none.stdout) == (2, "")
    assert "it has none" in none.stderr


def test_results_are_never_overwritten(run_cli, run, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    done = run_cli("eval", run[0], "--output", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_a_plain_notes_checkpoint_needs_no_side_file(run_cli, run, small_set, tmp_path):
    shutil.copy(run[0] / "best.pdparams", tmp_path / "notes.pdparams")
    done = run_cli("eval", tmp_path / "notes.pdparams", "--data", small_set, "--workers", 0)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("[validation] accuracy/loss: ")
    assert "threshold: 0.5 (stored: the notes' own)" in done.stdout


def test_safetensors_evaluate_alike(run_cli, run, small_set, tmp_path):
    from safetensors.numpy import save_file

    from pmtrain.runs.formats.state_dict import load_state

    state = {name: np.ascontiguousarray(array) for name, array in load_state(run[0] / "best.pdparams").items()}
    save_file(state, tmp_path / "a.safetensors")
    shutil.copy(run[0] / "best.pdparams", tmp_path / "b.pdparams")
    first, second = (
        run_cli("eval", tmp_path / name, "--data", small_set, "--workers", 0)
        for name in ("a.safetensors", "b.pdparams")
    )
    assert first.exit_code == 0, first.stderr
    assert first.stdout == second.stdout


def test_one_class_alone_leaves_measures_undefined_with_the_reason(run_cli, run, small_set, tmp_path):
    table = tmp_path / "labels.csv"
    files = sorted((small_set / "val/sick").iterdir())
    table.write_text(
        "path,label,split\n"
        + "".join(f"{file},sick,val\n" for file in files)
        + f"{small_set}/val/healthy/0.png,healthy,test\n"
    )
    done = run_cli("eval", run[0], "--data", table, "--positive", "sick", "--split", "val", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    table = table_of(done.stdout)
    assert table["AUC"] == table["Specificity"] == "undefined: no negative image"
    assert "CI" in table["Accuracy"]
    assert "nan" not in done.stdout.lower()


def test_classes_the_other_way_round_are_refused(run_cli, run, small_set):
    done = run_cli("eval", run[0] / "best.pdparams", "--data", small_set, "--positive", "healthy")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--positive 'sick'" in done.stderr


def test_classes_of_other_names_are_told(run_cli, run, small_set, tmp_path):
    for ours, theirs in (("normal", "healthy"), ("glaucoma", "sick")):
        shutil.copytree(small_set / "val" / theirs, tmp_path / "others" / ours)
    done = run_cli("eval", run[0], "--data", tmp_path / "others", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    assert "other classes than" in done.stderr
    assert "'normal' for 'healthy' and 'glaucoma' for 'sick'" in done.stderr


def test_a_split_that_is_not_there_is_refused(run_cli, run):
    done = run_cli("eval", run[0], "--split", "test")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "train, val" in done.stderr


@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps({"a": print})])
def test_what_is_no_checkpoint_is_refused_by_name(run_cli, small_set, tmp_path, content):
    file = tmp_path / "坏.pdparams"
    file.write_bytes(content)
    done = run_cli("eval", file, "--data", small_set)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "坏.pdparams" in done.stderr
    assert "this is a bug in pmtrain" not in done.stderr


def test_a_missing_checkpoint_names_those_beside_it(run_cli, run):
    done = run_cli("eval", run[0] / "bset.pdparams")
    assert done.exit_code == 1
    assert "best.pdparams" in done.stderr


def test_without_data_and_without_a_run_it_asks_for_data(run_cli, run, tmp_path):
    shutil.copy(run[0] / "best.pdparams", tmp_path / "notes.pdparams")
    done = run_cli("eval", tmp_path / "notes.pdparams")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--data" in done.stderr


def test_subgroups_come_in_the_order_that_people_count_in():
    from pmtrain.evaluation.evaluate.measuring import in_order

    assert in_order({"10", "9", "", "2.5"}) == ["", "2.5", "9", "10"]
    assert in_order({"10", "9", "b", ""}) == ["", "10", "9", "b"]


def test_a_unit_that_is_not_there_is_said_before_any_image_is_scored(run_cli, checkpoint, small_set, monkeypatch):
    from pmtrain.evaluation.evaluate import measuring

    monkeypatch.setattr(measuring, "pass_over", lambda *_: pytest.fail("scored"))
    for unit, said in (("patient", "have no patient"), ("slide", "has no such column")):
        done = run_cli("eval", checkpoint, "--data", small_set, "--unit", unit)
        assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr
