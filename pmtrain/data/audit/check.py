"""The command `pmtrain data check`: every fault of a data set that can be seen from its files, by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from pmtrain.config import CheckConfig
from pmtrain.data.audit.facts import gather
from pmtrain.data.audit.findings import CHECKS, SEVERITIES, Severity
from pmtrain.data.audit.survey import Keeper
from pmtrain.data.dataset import DataSet, first_few
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.select import select
from pmtrain.system import console
from pmtrain.system.files import new_file


@dataclass(frozen=True)
class Finding:
    """One fault: `kind` is a row of CHECKS, `files` are named relative to the data's root."""

    severity: Severity
    kind: str
    files: tuple[str, ...]
    message: str


def examine(data: DataSet, threads: int = 1, keeper: Keeper | None = None) -> list[Finding]:
    """Every finding about `data`, in the order of CHECKS; no file is changed."""
    facts = gather(data, threads, keeper)
    return [
        Finding(row.severity, kind, tuple(data.name_of(sample) for sample in it.samples), it.message)
        for kind, row in CHECKS.items()
        for it in row.find(facts)
    ]


def check(config: CheckConfig) -> int:
    """Print the findings about the data that the options name; 1 if one is an error (`strict`: or a warning), else 0.

    Raises:
        PmtrainError: the data can't be read, or `config.output` exists.
    """
    data = select(config, make_synthetic_set=False)
    cache = open_cache(config.cache_limit)
    keeper = Keeper(cache, Preprocess(config.preprocess, config.image_size)) if cache else None
    findings = examine(data, config.workers, keeper)
    if cache:
        cache.close()
    if config.on_bad_image == "skip":
        findings = [replace(f, severity="warning") if f.kind == "unreadable" else f for f in findings]
    text = FORMATS[config.format](data, findings)
    if config.output:
        with new_file(config.output) as file:
            file.write(f"{text}\n".encode("utf-8", "surrogateescape"))
        console.notice(f"{summary(data, findings)}; wrote {config.output}")
    else:
        console.result(text)
    failing = SEVERITIES[: 1 + config.strict]
    return int(any(finding.severity in failing for finding in findings))


def summary(data: DataSet, findings: list[Finding]) -> str:
    """The last line: `800 images: 2 errors, 1 warning, no notes`."""
    counts = Counter(finding.severity for finding in findings)
    parts = [f"{counts[name] or 'no'} {name}{'s' * (counts[name] != 1)}" for name in SEVERITIES]
    return f"{len(data.samples)} images: {', '.join(parts)}"


FEW = 5  # findings of a kind, and files of a finding, that are printed


def as_text(data: DataSet, findings: list[Finding]) -> str:
    """For people: by severity and kind, the first few of each; the summary ends it."""
    lines = ["SYNTHETIC images, drawn by a program"] * data.synthetic
    for severity in SEVERITIES:
        for kind, row in CHECKS.items():
            these = [finding for finding in findings if (finding.kind, finding.severity) == (kind, severity)]
            if these:
                lines.append(f"{severity}: {row.title} ({kind}): {len(these)}")
                lines += [f"  {_line(finding)}" for finding in these[:FEW]]
                lines += [f"  and {len(these) - FEW} more (--format json has all)"] * (len(these) > FEW)
    return "\n".join([*lines, summary(data, findings)])


def _line(finding: Finding) -> str:
    if not finding.files:
        return finding.message
    files = first_few(finding.files, FEW)
    return f"{files}: {finding.message}" if finding.severity != "note" else f"{finding.message}; files: {files}"


def as_json(data: DataSet, findings: list[Finding]) -> str:
    """For programs: everything."""
    counts = Counter(finding.severity for finding in findings)
    report: dict[str, Any] = {
        "data": str(data.root),
        "layout": data.layout,
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "images": len(data.samples),
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2, ensure_ascii=False)


FORMATS: dict[str, Callable[[DataSet, list[Finding]], str]] = {"text": as_text, "json": as_json}
