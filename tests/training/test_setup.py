"""What a run says of its options."""

from __future__ import annotations

import re

from pmtrain.config import TrainConfig, load_config
from pmtrain.config.stated import added_options, recipe_stated
from pmtrain.config.values import RECIPES
from pmtrain.training.setup import RECIPES_HINT
from tests.conftest import ROOT


def test_a_recipe_is_stated_with_what_was_changed():
    assert recipe_stated(load_config(TrainConfig, {"recipe": "robust"})) == "recipe: robust"
    config = load_config(TrainConfig, {"recipe": "robust", "epochs": 6, "nesterov": False, "seed": 3})
    assert recipe_stated(config) == "recipe: robust, but --epochs 6 --no-nesterov"
    assert recipe_stated(TrainConfig()) == ""


def test_a_member_of_several_trainings_states_its_recipe_alone():
    config = load_config(TrainConfig, {"recipe": "accurate"})
    assert config.seeds == 3
    assert recipe_stated(config.model_copy(update={"seeds": None})) == "recipe: accurate"
    assert recipe_stated(config.model_copy(update={"seeds": 2})) == "recipe: accurate, but --seeds 2"


def test_an_old_name_states_the_same_options():
    renamed, now = (load_config(TrainConfig, {"recipe": name}) for name in ("patches", "pathology"))
    assert renamed.model_copy(update={"recipe": "pathology"}) == now
    assert recipe_stated(renamed) == "recipe: patches"


def test_options_beyond_the_notes_loop_are_told_as_flags():
    config = TrainConfig(ema=0.98, drop_last=True, lr=0.02, patience=3)
    assert added_options(config) == "--ema 0.98 --drop-last --patience 3"
    assert added_options(TrainConfig()) == ""


def test_the_hint_names_recipes_and_has_the_figures_of_their_page():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d+\.\d+", RECIPES_HINT)
    assert figures and all(re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", page) for figure in figures)
    names = re.findall(r"--recipe (\w+)", RECIPES_HINT)
    assert "robust" in names and all((RECIPES / f"{name}.yaml").exists() for name in names)
