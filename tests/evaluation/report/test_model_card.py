"""The model card: front matter that YAML reads, figures as `eval` has them, and no text of a user as Markdown."""

from __future__ import annotations

import json
import shutil

import pytest
from ruamel.yaml import YAML

from pmtrain.config import EvalConfig, load_config
from pmtrain.evaluation.evaluate.measuring import examine
from pmtrain.evaluation.report.model_card import escaped, model_card


@pytest.fixture(scope="module")
def card(checkpoint, small_set, tmp_path_factory) -> str:
    """Of a checkpoint whose positive class and whose data have names that are Markdown, HTML and YAML at once."""
    folder = tmp_path_factory.mktemp("card")
    nasty = "<b>sick</b> [x](http://y): *1*"
    shutil.copytree(small_set, folder / "my *set*")
    for split in ("train", "val"):
        (folder / "my *set*" / split / "sick").rename(folder / "my *set*" / split / "well")
        (folder / "my *set*" / split / "healthy").rename(folder / "my *set*" / split / "x")
    info = json.loads(checkpoint.with_suffix(".json").read_text()) | {"class_names": ["x", nasty]}
    shutil.copy(checkpoint, folder)
    (folder / "best.json").write_text(json.dumps(info))
    options = {"data": folder / "my *set*", "positive": "well", "n_boot": 100, "workers": 0}
    return model_card(None, examine(folder / checkpoint.name, load_config(EvalConfig, options)))


def test_the_front_matter_is_yaml(card):
    _, front, _ = card.split("---\n", 2)
    told = YAML(typ="safe").load(front)
    assert told["pipeline_tag"] == "image-classification"
    assert told["license"] == "unknown"
    assert "synthetic" not in told["tags"]
    (result,) = told["model-index"][0]["results"]
    assert result["dataset"]["name"] == "my *set*"
    assert "<b>sick</b>" in told["model-index"][0]["name"]
    assert {metric["type"] for metric in result["metrics"]} == set(told["metrics"]) >= {"roc_auc", "accuracy"}


def test_what_users_named_is_text(card):
    body = card.split("---\n", 2)[2]
    assert "<b>" not in body
    assert "&lt;b\\>sick&lt;/b\\> \\[x\\](http" in body.replace("\\(", "(")
    assert "my \\*set\\*" in body


def test_it_has_the_figures_with_intervals(card):
    row = next(line for line in card.splitlines() if line.startswith("| AUC |"))
    assert " to " in row
    assert "not a medical device" in card
    assert "The training data isn't known" in card


def test_unprintable_characters_are_blanks():
    assert escaped("a\nb\x1b[31m\udce9") == "a b \\[31m "
