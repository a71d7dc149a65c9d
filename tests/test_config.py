"""Options: defaults, YAML and flags in their order, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pmtrain.config import (
    CacheConfig,
    CheckConfig,
    CompareConfig,
    EnvConfig,
    EvalConfig,
    ExplainConfig,
    PredictConfig,
    PretrainConfig,
    PreviewConfig,
    ReportConfig,
    SplitConfig,
    SynthConfig,
    TraceConfig,
    TrainConfig,
    dump_yaml,
    load_config,
)
from pmtrain.config.options import HEADS, choices_of, head_of
from pmtrain.config.values import RECIPES
from pmtrain.data.audit import check
from pmtrain.data.dataset import SPLITS
from pmtrain.data.layouts.readers import READERS
from pmtrain.data.loading.balance import SAMPLERS
from pmtrain.data.preprocessing.augment import AUGMENTATIONS
from pmtrain.data.preprocessing.preprocess import PREPROCESSING
from pmtrain.evaluation import compare
from pmtrain.evaluation.inference import predict
from pmtrain.models import DEPTHS, trace
from pmtrain.system import environment as system_environment
from pmtrain.system.errors import UsageError
from pmtrain.training.tracking import TRACKERS
from tests.conftest import environment


def test_defaults_are_the_notes_values():
    config = TrainConfig()
    assert (config.layers, config.epochs, config.batch_size) == (50, 5, 10)
    assert (config.lr, config.momentum, config.weight_decay) == (0.001, 0.9, 0.001)
    assert (config.image_size, config.log_every, config.precision) == (224, 20, "fp32")


def test_notes_yaml_states_the_defaults():
    assert load_config(TrainConfig, {}, Path("notes")) == TrainConfig(recipe="notes")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_are_found_by_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = load_config(TrainConfig, {"recipe": path.stem})
    assert named == load_config(TrainConfig, {}, Path(path.stem))
    in_full = load_config(TrainConfig, {}, path)  # as a file of the person's own would be read
    assert named.model_copy(update={"recipe": None}) == in_full.model_copy(update={"recipe": None})
    Path(path.stem).write_text("epochs: 77")  # the person's own file comes first
    assert load_config(TrainConfig, {}, Path(path.stem)) == TrainConfig(epochs=77)


def test_a_file_overrides_a_recipe_and_flags_override_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 7\nlr: 0.5\n")
    config = load_config(TrainConfig, {"recipe": "robust", "lr": 0.25}, file)
    assert (config.layers, config.epochs, config.lr, config.recipe) == (18, 7, 0.25, "robust")
    file.write_text("recipe: robust\nlr: 0.5\n")  # a file may name it, too
    config = load_config(TrainConfig, {}, file)
    assert (config.layers, config.lr, config.recipe) == (18, 0.5, "robust")
    assert load_config(TrainConfig, config.model_dump()) == config


def test_two_recipes_are_refused():
    with pytest.raises(UsageError, match="--recipe general with --config robust: those are two recipes"):
        load_config(TrainConfig, {"recipe": "general"}, Path("robust"))


def test_help_tells_of_every_recipe():
    field = TrainConfig.model_fields["recipe"]
    assert set(choices_of(field)) == {path.stem for path in RECIPES.glob("*.yaml")}
    for name in choices_of(field):
        assert f" {name}: " in field.description


def test_an_unknown_recipe_is_told_with_those_there_are():
    with pytest.raises(UsageError, match="--recipe 'note': choose one of .*general, notes, .*robust"):
        load_config(TrainConfig, {"recipe": "note"})
    with pytest.raises(UsageError, match="--config note: there is no such file or recipe\n.*general, notes, .*robust"):
        load_config(TrainConfig, {}, Path("note"))


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path):
    file = tmp_path / "配置.yaml"
    file.write_text("lr: 1e-4\nepochs: 3\ndata: photographs\n", encoding="utf-8-sig")
    config = load_config(TrainConfig, {"epochs": 7, "momentum": None}, file)
    assert (config.lr, config.epochs, config.momentum, config.data) == (1e-4, 7, 0.9, Path("photographs"))


def test_a_dumped_config_reads_back(tmp_path):
    config = TrainConfig(data=Path("图 片/a b"), lr=1e-5, layers=101, positive="no: #1")
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(TrainConfig, {}, file) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochz: 3", ["'epochz'", "did you mean 'epochs'?"]),
        ("batch-size: 3", ["'batch-size'", "did you mean 'batch_size'?"]),
        ("qqqqq: 3", ["'qqqqq'", "the options are", "weight_decay"]),
        ("epochs: '3'", ["epochs: '3'", "integer"]),
        ("epochs: 2.5", ["epochs: 2.5", "integer"]),
        ("epochs: true", ["epochs: True", "integer"]),
        ("epochs: 0", ["epochs: 0", "greater than or equal to 1"]),
        ("lr: .nan", ["lr: nan", "finite"]),
        ("lr: fast", ["lr: 'fast'", "number"]),
        ("momentum: 1", ["momentum: 1", "less than 1"]),
        ("threshold_rule: stored", ["threshold_rule: 'stored'", "can't take a stored one"]),
        ("threshold_rule: best", ["threshold_rule: 'best'", "youden"]),
        ("class_weight: 0", ["class_weight: 0", "above 0 and at most 1000"]),
        ("class_weight: .nan", ["class_weight: nan", "above 0"]),
        ("class_weight: 1001", ["class_weight: 1001", "at most 1000"]),
        ("class_weight: even", ["class_weight: 'even'", "balanced or a number"]),
        ("class_weight: true", ["class_weight: True", "string"]),
        ("sampler: random", ["sampler: 'random'", "shuffle, balanced"]),
        ("augment: heavy", ["augment: 'heavy'", "none, light, fundus, camera"]),
        ("layers: 20", ["layers: 20", "18, 34, 50, 101, 152"]),
        ("data: 5", ["data: 5", "path"]),
        ("precision: fp8", ["precision: 'fp8'", "'fp32', 'bf16' or 'fp16'"]),
        ("device: tpu", ["device: 'tpu'", "gpu"]),
        ("lr: 1\nlr: 2", ["duplicate key", "lr"]),
        ("lr: [", ["isn't YAML"]),
        ("- lr", ["holds no options"]),
        ("lr", ["holds no options", "'lr'"]),
    ],
)
def test_a_bad_file_is_refused_by_file_key_and_value(tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        load_config(TrainConfig, {}, file)
    for part in [str(file), *said]:
        assert part in str(error.value)


@pytest.mark.parametrize(("text", "kept"), [("2", "2"), ("2.5", "2.5"), ("'3'", "3"), ("balanced", "balanced")])
def test_a_class_weight_is_a_number_or_balanced_and_reads_back(tmp_path, text, kept):
    file = tmp_path / "mine.yaml"
    file.write_text(f"class_weight: {text}")
    config = load_config(TrainConfig, {}, file)
    assert config.class_weight == kept
    file.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(TrainConfig, {}, file) == config


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml.*No such file"):
        load_config(TrainConfig, {}, tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match=r"binary\.yaml: isn't UTF-8 text"):
        load_config(TrainConfig, {}, binary)


def test_an_empty_file_changes_nothing(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing yet\n")
    assert load_config(TrainConfig, {}, file) == TrainConfig()


OPTIONS = [
    pytest.param(model, name, id=f"{model.__name__}-{name}")
    for model in (
        *(TrainConfig, PretrainConfig, EvalConfig, ReportConfig, CompareConfig, PredictConfig, ExplainConfig),
        *(SplitConfig, PreviewConfig, CheckConfig, CacheConfig, SynthConfig, TraceConfig, EnvConfig),
    )
    for name in model.model_fields
]
# Every table whose rows are the choices of an option.
TABLES = {
    "preprocess": PREPROCESSING,
    "augment": AUGMENTATIONS,
    "sampler": SAMPLERS,
    "track": TRACKERS,
    "layers": DEPTHS,
    "data_format": ("auto", *READERS),
    "split": (*SPLITS, "all"),
}
FORMATS = {
    PredictConfig: predict.FORMATS,
    CompareConfig: compare.FORMATS,
    CheckConfig: check.FORMATS,
    TraceConfig: trace.FORMATS,
    EnvConfig: system_environment.FORMATS,
}


@pytest.mark.parametrize(("model", "name"), OPTIONS)
def test_every_option_has_a_head_and_a_help_text(model, name):
    field = model.model_fields[name]
    assert head_of(field) in HEADS
    assert field.description


@pytest.mark.parametrize(("model", "name"), OPTIONS)
def test_choices_are_the_rows_of_their_table(model, name):
    choices = choices_of(model.model_fields[name])
    table = FORMATS[model] if name == "format" else TABLES.get(name)
    if table is not None:
        assert set(choices) == set(map(str, table))
        for row in table:
            given = load_config(model, {name: [row] if name == "track" else row})
            assert getattr(given, name) in (row, [row])
        with pytest.raises(UsageError, match="choose one of"):
            load_config(model, {name: ["nothing"] if name == "track" else 7 if name == "layers" else "nothing"})


@pytest.mark.parametrize(("model", "name"), OPTIONS)
def test_a_default_is_one_of_the_choices(model, name):
    field = model.model_fields[name]
    if choices_of(field) and field.default not in (None, []):
        assert str(field.default) in choices_of(field)


def test_the_same_option_has_the_same_place_and_help_in_every_command():
    """A command only tells in its own words what it writes, and where an option means something else in it."""
    own = {"output", "format", "backend", "precision"}
    others = {(SplitConfig, "group_by"), (CheckConfig, "workers")}
    others |= {(TrainConfig, "nproc")}  # processes share each batch there, and whole batches elsewhere
    others |= {(PretrainConfig, "data")}  # without labels
    others |= {(PredictConfig, "unit")}  # predictions, not results
    others |= {(SynthConfig, "train"), (SynthConfig, "val"), (SplitConfig, "val")}  # numbers here, a share there
    told: dict[str, set[tuple[str, str]]] = {}
    for model, name in (each.values for each in OPTIONS):
        field = model.model_fields[name]
        if (model, name) not in others:
            told.setdefault(name, set()).add((head_of(field), "" if name in own else field.description))
    assert {name: places for name, places in told.items() if len(places) > 1} == {}


def test_a_table_is_read_off_its_source_as_long_as_it_is_not_imported():
    """In a process of its own: the tests have imported everything."""
    code = """
import sys
from pmtrain.config.values import OneOf
assert OneOf("pmtrain.evaluation.inference.predict:FORMATS").names() == ("csv", "json", "palm")
assert not {"pmtrain.evaluation.inference.predict", "numpy", "cv2", "paddle"} & set(sys.modules)
assert OneOf("pmtrain.data.layouts.tables.delimited:__name__", "x").names()[0] == "x"  # no literal: imported
assert "pmtrain.data.layouts.tables.delimited" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=environment({}))


def test_a_row_added_while_running_is_a_choice(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "mine", SAMPLERS["shuffle"])
    assert "mine" in choices_of(TrainConfig.model_fields["sampler"])
    assert load_config(TrainConfig, {"sampler": "mine"}).sampler == "mine"


LAUGHS = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{f'b{i - 1}' if i else 'a'}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "has an alias"),
        ("data: " + "[" * 3000 + "]" * 3000, "is nested more than 8 deep"),
        ("- " * 3000, "is nested more than 8 deep"),
        ("data: &a [*a]", "has an alias"),
        ("seed: " + "9" * 10_000, "isn't YAML"),
        ("%YAML 1.3\n---\nseed: 1", "isn't YAML"),
        ("seed: 2001-99-99", "isn't YAML"),
        ("x" * 70_000, "has more than 65,536 bytes"),
        ("data: !!python/object/apply:os.system ['touch hacked']", "isn't YAML"),
    ],
)
def test_hostile_yaml_is_refused(tmp_path, text, said):
    file = tmp_path / "hostile.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(TrainConfig, {}, file)
    assert f"hostile.yaml: {said}" in str(caught.value) and len(str(caught.value)) < 1000
    assert list(tmp_path.iterdir()) == [file]
