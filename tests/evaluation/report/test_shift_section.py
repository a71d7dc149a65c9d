"""The report's section on changed images: panels that share no id, and tables with every value."""

from __future__ import annotations

import re

from pmtrain.evaluation.report.shift_section import shift_section
from pmtrain.evaluation.robustness.suite import SHIFTS


def test_without_a_suite_there_is_none():
    assert shift_section(None) is None


def test_panels_and_tables_have_every_change(shift_result):
    section = shift_section(shift_result)
    assert [panel.title for panel in section.panels] == list(SHIFTS["stain"])
    ids = [name for panel in section.panels for name in re.findall(r'\bid="([^"]+)"', panel.svg)]
    assert len(ids) == len(set(ids)) > 20
    assert [row[0] for row in section.means.rows] == ["clean", *SHIFTS["stain"], "mean of all"]
    assert all(len(row) == len(section.means.headings) for row in section.means.rows)
    reached = shift_result.reached
    assert section.means.rows[2][1].startswith(f"{reached.by_change['eosin']['auc'].value.value:.4f} (")
    assert section.means.rows[2][4].startswith(f"{reached.loss_by_change['eosin']['auc'].value.value:.4f} (")
    assert section.means.rows[0][4] == ""
    assert section.details.rows[1][2].startswith(f"{reached.cells['eosin', 5]['auc'].value.value:.4f} (")
    assert section.details.rows[1][-1] == SHIFTS["stain"]["eosin"].source
    assert (section.suite, section.severities) == ("stain", "1, 5")
