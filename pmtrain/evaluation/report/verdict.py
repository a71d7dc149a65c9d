"""The verdict box: what was tested, what was not, and how far the results can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pmtrain.evaluation.evaluate.measuring import Evaluation
from pmtrain.metrics.text import percent
from pmtrain.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Verdict:
    """The sentences of the box; `status` is for results that aren't exploratory, `shortcut` is empty without one."""

    tested_on: str
    status: str
    shortcut: str
    not_tested: list[str]


def verdict(
    run: RunFolder,
    evaluation: Evaluation,
    external: bool,
    leakage: bool,
    shortcut: Mapping[str, Any] | None,
    others: Sequence[str] = (),
) -> Verdict:
    """The box of an evaluation.

    Args:
        external: whether the images are from other data than the run's.
        leakage: whether the run looked for duplicates and patients in both training and validation.
        shortcut: the shortcut baseline as metrics.json has it.
        others: names of the external sets that stand beside it.
    """
    found, classes = evaluation.found, evaluation.images.data.classes
    split = {"train": "training ", "val": "validation ", "test": "test "}.get(evaluation.images.split, "")
    patients = "patients unknown" if found.patients is None else f"{found.patients} patients"
    counts = f"{found.positives} {classes[1]}, {found.n - found.positives} {classes[0]}"
    return Verdict(
        tested_on=f"{found.n} {split}{evaluation.word}s, {patients}: {counts} (prevalence {found.prevalence:.4f})",
        status=_status(run, external),
        shortcut=_shortcut_text(shortcut, evaluation.config.ci),
        not_tested=_not_tested(evaluation, external, leakage, shortcut, others),
    )


def _status(run: RunFolder, external: bool) -> str:
    if external and not run.images.is_file():
        return (
            "Not known to be exploratory: the run has no images.csv,"
            " so it can't be checked whether it was trained on these images."
        )
    return (
        "Not exploratory: none of these images was used to train the network, or to choose its epoch or threshold"
        + (" (compared byte for byte)." if external else ".")
    )


def _shortcut_text(shortcut: Mapping[str, Any] | None, level: float) -> str:
    """The network's AUC against the baseline's; empty where either is missing."""
    auc = (shortcut or {}).get("auc") or {}
    minus = ((shortcut or {}).get("difference") or {}).get("auc") or {}
    if auc.get("value") is None or minus.get("value") is None:
        return ""
    text = f"AUC {auc['value']:.4f} without a network; network minus baseline {minus['value']:+.4f}"
    if minus.get("low") is None or minus.get("high") is None:
        return text + "."
    text += f" ({percent(level)} CI {minus['low']:.3f} to {minus['high']:.3f})."
    if minus["high"] < 0:
        text += " The network is worse than size, colour and a thumbnail alone."
    elif minus["low"] <= 0:
        text += " The network is not shown to be better than size, colour and a thumbnail alone."
    return text


def _not_tested(
    evaluation: Evaluation,
    external: bool,
    leakage: bool,
    shortcut: Mapping[str, Any] | None,
    others: Sequence[str],
) -> list[str]:
    missing = {
        "External data: other clinics, cameras and populations": not external and not others,
        "Other external data than this": external and not others,
        f"Other external data than {', '.join(others)}": bool(others),
        "Subgroups, such as sex, age or camera (--group-by)": not evaluation.subgroups,
        "Images changed as other cameras or laboratories would (--shift)": not evaluation.shift,
        "Independence of images of one patient: no patients are named": evaluation.found.patients is None,
        "Duplicates and patients in both training and validation": not leakage,
        "Shortcuts: the run has no shortcut baseline": shortcut is None or not shortcut.get("auc"),
        "Variation between training runs: this is one run with one seed": True,
    }
    return [text for text, is_missing in missing.items() if is_missing]
