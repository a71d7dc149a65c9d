"""Several networks as one: which they are, and the threshold of their mean logit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pmtrain.data.dataset import Sample
from pmtrain.evaluation.scores.operating_point import threshold_to_store
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import read_scores
from pmtrain.evaluation.scores.scoring import averaged
from pmtrain.runs.checkpoint import Checkpoint, Ensemble, Networks, ensemble_sha256, load_checkpoint
from pmtrain.runs.records import ENSEMBLE, CheckpointInfo, EnsembleRecord, read_ensemble
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import write_atomic

AnyPath = str | os.PathLike[str]
UNKNOWN = "0.5, since the networks keep no validation scores in common"


def load_networks(given: AnyPath | Sequence[AnyPath]) -> Networks:
    """A checkpoint, or several as one.

    Args:
        given: as of `load_checkpoint`, or the folder of a cross-validation or of `train --seeds`; several of these as a
            sequence, or in one text, separated by commas.
    Raises:
        PmtrainError: as `load_checkpoint`; the networks' classes differ; the folder isn't complete.
    """
    paths = [Path(each) for each in ([given] if isinstance(given, (str, os.PathLike)) else given)]
    paths = [part for path in paths for part in _parts(path)]
    if len(paths) == 1 and (kept := _kept(paths[0])):
        return kept
    members = [member for path in paths for member in (_kept(path) or load_checkpoint(path)).members]
    return members[0] if len(members) == 1 else together(members)


def _parts(path: Path) -> list[Path]:
    """`a,b` as two paths, unless there is a file or folder of that name."""
    return [path] if "," not in str(path) or path.exists() else [Path(part) for part in str(path).split(",") if part]


def _kept(path: Path) -> Ensemble | None:
    """The ensemble in a folder; None where the path isn't such a folder.

    Raises:
        PmtrainError: it isn't complete, or a member's weights aren't those that it was made of.
    """
    if (path / ENSEMBLE).is_file():
        record = read_ensemble(path / ENSEMBLE)
        members = tuple(load_checkpoint(path / name) for name in record.members)
        _require_equal_classes(members)
        if ensemble_sha256(members) != record.info.weights_sha256:
            raise PmtrainError(
                f"{path}: its networks aren't those that {ENSEMBLE} was made of",
                f"make it again: {quoted('pmtrain', 'train', '--resume', path)}",
            )
        return Ensemble(members, record.info, path, path / ENSEMBLE)
    if not RunFolder(path).config_file.is_file() or not any(path.glob("fold-*")) and not any(path.glob("seed-*")):
        return None
    if not (path / "folds.json").is_file():
        raise PmtrainError(f"{path} isn't complete", f"finish it: {quoted('pmtrain', 'train', '--resume', path)}")
    count = RunFolder(path).config().folds or 0
    folders = [path / f"fold-{number}" for number in range(1, count + 1)]
    made = together([load_checkpoint(folder) for folder in folders])  # by an older pmtrain
    return Ensemble(made.members, made.info, path)


def together(members: Sequence[Checkpoint]) -> Ensemble:
    """Networks that were only named together, with a threshold from the validation scores that their runs keep.

    Raises:
        PmtrainError: their classes differ.
    """
    _require_equal_classes(members)
    scores = validation_scores(members)
    if scores is None:
        console.warn(
            f"no threshold is known for the mean of these {len(members)} networks, whose runs keep no validation scores"
            " in common: 0.5 is used\nhint: choose one with `pmtrain eval ... --threshold youden` on validation images"
        )
        threshold, rule = 0.5, UNKNOWN
    else:
        folder = RunFolder.around(members[0].path)
        threshold, rule = ensemble_threshold(folder.config().threshold_rule if folder else "youden", scores)
    if any(member.info.calibration for member in members):
        console.notice("the networks' own logits are averaged: the calibration of a single network doesn't apply")
    return Ensemble(tuple(members), common_info(members, threshold, rule), members[0].path)


def _require_equal_classes(members: Sequence[Checkpoint]) -> None:
    first = members[0]
    for other in members[1:]:
        if other.info.class_names != first.info.class_names:
            ours, theirs = (", ".join(each.info.class_names) for each in (first, other))
            raise PmtrainError(
                f"{other.path} tells {theirs} apart, and {first.path} {ours}: their scores can't be averaged",
                "give networks with the same classes, the positive one last",
            )


def common_info(members: Sequence[Checkpoint], threshold: float, rule: str) -> CheckpointInfo:
    """What holds for the networks together; what describes a single network is the first one's."""
    priors = [member.info.prior for member in members if member.info.prior is not None]
    return members[0].info.model_copy(
        update={
            "threshold": threshold,
            "threshold_rule": rule,
            "epoch": None,
            "metrics": {},
            "synthetic": any(member.info.synthetic for member in members),
            "prior": float(np.mean(priors)) if len(priors) == len(members) else None,
            "calibration": None,
            "unit": None,
            "weights_sha256": ensemble_sha256(members),
        }
    )


def keep_ensemble(folder: Path, kind: str, members: Sequence[str], info: CheckpointInfo) -> Path:
    """Write ensemble.json; `members`: names of their folders in `folder`."""
    record = EnsembleRecord(kind=kind, members=tuple(members), info=info)
    write_atomic(folder / ENSEMBLE, (record.model_dump_json(indent=2) + "\n").encode())
    return folder / ENSEMBLE


def validation_scores(members: Sequence[Checkpoint]) -> Scores | None:
    """The mean logit for each image that a member's run held out, by the members that held it out: out-of-fold where
    the runs held out different images. None unless all are the best weights of runs on one data set that keep scores.

    Raises:
        PmtrainError: a table of scores is damaged.
    """
    runs = [RunFolder.around(member.path) for member in members]
    known = [run for run in runs if run and run.info_file.is_file() and run.best_validation.is_file()]
    if len(known) < len(members) or any(run.best != m.path for run, m in zip(known, members, strict=True)):
        return None
    if len({run.info()["data"]["root"] for run in known}) > 1:
        return None
    tables = [read_scores(run.best_validation) for run in known]
    rows = {name: row for table in tables for name, row in table.items()}
    logits = np.array([[table[name].logit if name in table else np.nan for name in rows] for table in tables])
    samples = [Sample(Path(name), row.label, "val", row.patient) for name, row in rows.items()]
    return averaged(samples, logits)


def ensemble_threshold(rule_text: str, scores: Scores) -> tuple[float, str]:
    """The threshold to store for the mean of several networks, from `validation_scores`, and how it was chosen."""
    threshold, rule = threshold_to_store(rule_text, scores)
    alone = scores.scored_by is not None and scores.scored_by.max() == 1 and " on " in rule
    return threshold, f"{rule}, each by the network that held it out" if alone else rule
