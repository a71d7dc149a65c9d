"""Options: defaults, YAML and flags in their order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.config import EvalConfig, TrainConfig, dump_yaml, load_config
from pmtrain.data.layouts.readers import READERS
from pmtrain.system.errors import UsageError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_defaults_are_the_notes_values():
    config = TrainConfig()
    assert (config.layers, config.epochs, config.batch_size) == (50, 5, 10)
    assert (config.lr, config.momentum, config.weight_decay) == (0.001, 0.9, 0.001)
    assert (config.image_size, config.log_every, config.precision) == (224, 20, "fp32")


def test_notes_yaml_states_the_defaults():
    notes = next(path for path in CONFIGS if path.name == "notes.yaml")
    assert load_config(TrainConfig, {}, notes) == TrainConfig()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_are_read(path):
    load_config(TrainConfig, {}, path)


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
        ("sampler: random", ["sampler: 'random'", "'shuffle' or 'balanced'"]),
        ("augment: heavy", ["augment: 'heavy'", "'none', 'light', 'fundus', 'camera'"]),
        ("layers: 34", ["layers: 34", "50, 101, 152"]),
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
    with pytest.raises(UsageError, match=r"binary\.yaml: isn't YAML"):
        load_config(TrainConfig, {}, binary)


def test_an_empty_file_changes_nothing(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing yet\n")
    assert load_config(TrainConfig, {}, file) == TrainConfig()


def test_every_layout_can_be_named():
    for layout in READERS:
        assert load_config(EvalConfig, {"data_format": layout}).data_format == layout
