"""The items of STARD-AI and CLAIM (2024): which the page answers and which are left to the author.

The items are told in words of our own and short; a paper is checked against the published lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pmtrain.metrics import MEASURES

Answered = Literal["here", "part", "author"]
HERE: Answered = "here"
PART: Answered = "part"
AUTHOR: Answered = "author"


class Item(NamedTuple):
    """One item: its number, what it asks for, who answers it, the answer or what is missing, the section with it."""

    number: str
    asks: str
    answered: Answered
    answer: str
    section: str = ""


@dataclass(frozen=True)
class Checklist:
    """A guideline's items, and where it was published."""

    name: str
    citation: str
    doi: str
    items: tuple[Item, ...]

    def count(self, answered: str) -> int:
        return sum(item.answered == answered for item in self.items)


@dataclass(frozen=True)
class StudyFacts:
    """What the answers are made of."""

    network: str  # ResNet-50
    image_size: int
    preprocessing: str
    epochs: int
    counts: str  # images by split, in words
    threshold: str
    intervals: str
    left_out: int
    group_by: str  # empty where nothing was grouped
    patients: bool  # whether they are known
    errors: int  # images shown
    leakage: bool  # whether it was checked
    held_out: bool  # whether the images played no part in choosing epoch, threshold or weights
    external: bool  # whether other data than the run's is among them
    seed: int
    origin: str  # of the weights, in words


def checklists(facts: StudyFacts) -> list[Checklist]:
    """Both, filled in."""
    return [_stard_ai(facts), _claim(facts)]


def _grouped(facts: StudyFacts) -> tuple[Answered, str]:
    if facts.group_by:
        return PART, f"All metrics by {facts.group_by}; state whether this was planned in advance."
    return AUTHOR, "No subgroups: use --group-by with a column such as sex or camera."


def _tested(facts: StudyFacts) -> str:
    if facts.held_out:
        return "These images played no part in the training."
    return "The epoch or threshold was chosen on these images: test on others with pmtrain eval --data."


def _external(facts: StudyFacts) -> tuple[Answered, str]:
    if facts.external:
        return PART, "Images that are not from the run's data were tested; describe how they differ."
    return AUTHOR, "This page has no external data: use pmtrain report RUN --external NAME=DATA."


def _stard_ai(f: StudyFacts) -> Checklist:
    grouped, by_group = _grouped(f)
    left_out = f"{f.left_out} unreadable images were left out and are listed."
    items = (
        Item("1", "The title or abstract names an AI-centred diagnostic accuracy study and a measure", AUTHOR, ""),
        Item("2", "A structured abstract", AUTHOR, "The key results are listed.", "summary"),
        Item("3", "Background; intended use, novelty and place in the workflow", AUTHOR, ""),
        Item("4", "Aims and hypotheses", AUTHOR, ""),
        Item("5", "Data collected before or after the tests were planned", AUTHOR, ""),
        Item("6", "Ethics approval, or why none was needed", AUTHOR, ""),
        Item("7", "Eligibility of participants and of data, in the order applied", AUTHOR, ""),
        Item("8", "How eligible participants were found", AUTHOR, ""),
        Item("9", "Where and when", AUTHOR, ""),
        Item("10", "A consecutive, random or convenience series", AUTHOR, ""),
        Item(
            "11", "Where the data come from, why they were collected", PART, "The folder and its fingerprint.", "data"
        ),
        Item("12", "Who annotated the images, with which experience, and how", AUTHOR, ""),
        Item(
            "13", "Devices that captured the data; software of the test", PART, "The software; name cameras.", "again"
        ),
        Item(
            "14",
            "How images were acquired and preprocessed",
            PART,
            f"Preprocessing {f.preprocessing} at {f.image_size} pixels; describe the acquisition.",
            "data",
        ),
        Item("15a", "The index test, so that it can be replicated", HERE, f"{f.network}; options, versions.", "again"),
        Item("15b", "How it was developed, with sample sizes", HERE, f"{f.epochs} epochs; {f.counts}.", "data"),
        Item("15c", "Its cut-off, why, and whether chosen beforehand", PART, f"{f.threshold}. Say why.", "confusion"),
        Item("15d", "Who is to use it, with which expertise", AUTHOR, ""),
        Item("16a", "The reference standard, so that it can be replicated", AUTHOR, ""),
        Item("16b", "Why that reference standard", AUTHOR, ""),
        Item("16c", "Its cut-off or categories", AUTHOR, "The page only knows the two classes.", "data"),
        Item("17a", "What readers of the index test knew", PART, "The network sees only the pixels."),
        Item("17b", "What assessors of the reference standard knew", AUTHOR, ""),
        Item("18", "How accuracy was estimated and compared", HERE, f.intervals + ".", "measures"),
        Item(
            "19", "Indeterminate results", PART, "The network always gives a result; describe the reference standard."
        ),
        Item("20", "Missing data", PART, left_out, "checks"),
        Item("21", "Variability of accuracy, planned or exploratory", grouped, by_group, "subgroups"),
        Item("22", "Intended sample size and its reason", AUTHOR, ""),
        Item(
            "23",
            "Analysis of errors, of bias and of fairness",
            PART,
            "The worst cases; add your own analysis.",
            "errors",
        ),
        Item("24", "A diagram of the flow of participants", AUTHOR, "Images by split are counted.", "data"),
        Item("25", "Characteristics of participants by split", PART, "Images by class; add age, sex, camera.", "data"),
        Item("26a", "How severe the disease was", AUTHOR, ""),
        Item("26b", "What those without it had instead", AUTHOR, ""),
        Item("27", "Time and treatment between the two tests", AUTHOR, ""),
        Item("28", "Whether the data resemble the intended population", AUTHOR, "The prevalence is given.", "summary"),
        Item("29", "How external data differ from those of the training", *_external(f)),
        Item("30", "A table of the test's result by the reference standard", HERE, "The four counts.", "confusion"),
        Item("31", "Estimates of accuracy, their precision", HERE, f"{len(MEASURES)} measures, intervals.", "measures"),
        Item("32", "Adverse events", AUTHOR, ""),
        Item("33", "Limitations: bias, uncertainty, generalisability", PART, _tested(f), "checks"),
        Item("34", "Implications for practice", AUTHOR, ""),
        Item("35", "Ethics of its use, and fairness", AUTHOR, ""),
        Item("36", "Registration", AUTHOR, ""),
        Item("37", "Where the protocol is", AUTHOR, ""),
        Item("38", "Funding", AUTHOR, ""),
        Item("39", "Commercial interests", AUTHOR, ""),
        Item("40a", "Availability of data and code", PART, "Revision, fingerprints; say how to get them.", "again"),
        Item(
            "40b", "Whether outputs are stored and auditable", PART, "pmtrain eval --output stores each score.", "again"
        ),
    )
    return Checklist(
        "STARD-AI",
        "Sounderajah V, Guni A, Liu X, et al. The STARD-AI reporting guideline for diagnostic accuracy studies using"
        " artificial intelligence. Nature Medicine 2025; 31: 3283–3289.",
        "10.1038/s41591-025-03953-8",
        items,
    )


def _claim(f: StudyFacts) -> Checklist:
    grouped, by_group = _grouped(f)
    apart = "All images of a patient are in one split." if f.patients else "By image: the patients are unknown."
    looked = " Duplicates were checked." if f.leakage else " Duplicates were not checked."
    items = (
        Item("1", "The title or abstract names the kind of AI", AUTHOR, f"{f.network}, a convolutional network."),
        Item("2", "A structured abstract", AUTHOR, "The key results are listed.", "summary"),
        Item("3", "Background, intended use and clinical role", AUTHOR, ""),
        Item("4", "Aims and hypotheses", AUTHOR, ""),
        Item("5", "Prospective or retrospective", AUTHOR, ""),
        Item("6", "The goal of the study", AUTHOR, ""),
        Item("7", "Where the data come from", PART, "The folder and its fingerprint.", "data"),
        Item("8", "What was included and excluded", AUTHOR, ""),
        Item("9", "Preprocessing", HERE, f"{f.preprocessing}, {f.image_size} pixels; kept with the weights.", "data"),
        Item("10", "Selection of parts of the images or data", PART, "Whole images; say whether any were picked."),
        Item("11", "De-identification", AUTHOR, "This page shows photographs and file names of the data."),
        Item("12", "Missing data", PART, f"{f.left_out} unreadable images were left out.", "checks"),
        Item("13", "How images were acquired", AUTHOR, ""),
        Item("14", "What the reference standard is", AUTHOR, ""),
        Item("15", "Why that one", AUTHOR, ""),
        Item("16", "Who annotated, with which qualification", AUTHOR, ""),
        Item("17", "How the test images were annotated", AUTHOR, ""),
        Item("18", "Agreement between and within annotators", AUTHOR, ""),
        Item("19", "How data were assigned to splits", PART, f"{f.counts}; seed {f.seed}.", "data"),
        Item("20", "At which level the splits are disjoint", HERE if f.patients else PART, apart + looked, "checks"),
        Item("21", "Intended sample size", AUTHOR, "Images by split are counted.", "data"),
        Item("22", "The model in detail", HERE, f"{f.network}, input {f.image_size} pixels, one logit.", "again"),
        Item("23", "Software and versions", HERE, "Every library with its version.", "again"),
        Item("24", "How weights were initialised", HERE, f"{f.origin}.", "again"),
        Item("25", "How it was trained", HERE, "Every option, and the curves.", "training"),
        Item("26", "How the final model was chosen", HERE, "The epoch of the highest validation AUC.", "training"),
        Item("27", "Ensembling", HERE, "None: one network."),
        Item("28", "The measures used", HERE, f"{len(MEASURES)}, each by name.", "measures"),
        Item("29", "Uncertainty and significance", HERE, f.intervals + ".", "measures"),
        Item("30", "Robustness or sensitivity", grouped, by_group, "subgroups"),
        Item(
            "31",
            "How predictions are explained",
            PART if f.errors else AUTHOR,
            "Grad-CAM, not validated as an explanation." if f.errors else "No images are on this page: see --errors.",
            "errors",
        ),
        Item("32", "Evaluation on internal data", HERE if f.held_out else PART, _tested(f), "measures"),
        Item("33", "Testing on external data", *_external(f)),
        Item("34", "Registration of a trial", AUTHOR, ""),
        Item("35", "How many were included and excluded, as a diagram", PART, "Counted; draw the diagram.", "data"),
        Item("36", "Characteristics of every split", PART, "Images by class; add age, sex, camera.", "data"),
        Item("37", "Performance with its uncertainty, on every split", PART, "On one split, and by epoch.", "measures"),
        Item("38", "Diagnostic estimates with their precision", HERE, f"{f.intervals}; the ROC curve.", "measures"),
        Item("39", "Analysis of failures", PART, "Confusion matrix and worst cases; interpret them.", "errors"),
        Item("40", "Limitations", PART, _tested(f), "checks"),
        Item("41", "Implications for practice", AUTHOR, ""),
        Item("42", "Where protocol and technical details are", PART, "The technical details.", "again"),
        Item("43", "Availability of software, weights and data", PART, "Versions and fingerprints.", "again"),
        Item("44", "Funding, and the role of funders", AUTHOR, ""),
    )
    return Checklist(
        "CLAIM (2024 update)",
        "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM):"
        " 2024 Update. Radiology: Artificial Intelligence 2024; 6: e240300.",
        "10.1148/ryai.240300",
        items,
    )
