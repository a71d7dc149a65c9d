"""Options: each stated once, with its default, range, help and head. The command line and YAML are made from these."""

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.data_options import (
    CacheConfig,
    CheckConfig,
    DataOptions,
    ListingOptions,
    PreviewConfig,
    SplitConfig,
    SynthConfig,
)
from pmtrain.config.commands.deploy_options import ExportConfig, ServeConfig
from pmtrain.config.commands.info_options import EnvConfig, TraceConfig
from pmtrain.config.commands.model_options import CalibrateConfig, FitDomainConfig
from pmtrain.config.commands.predict_options import ExplainConfig, PredictConfig
from pmtrain.config.commands.pretrain_options import PretrainConfig
from pmtrain.config.commands.score_options import (
    AS_TRAINED,
    CompareConfig,
    EvalConfig,
    ImageOptions,
    MeasuringOptions,
    ReportConfig,
    ScoringOptions,
)
from pmtrain.config.commands.train_options import RESUMABLE, TrainConfig
from pmtrain.config.load import dump_yaml, load_config, read_yaml, resumed, validated
from pmtrain.config.options import flag_of

__all__ = [
    "AS_TRAINED",
    "RESUMABLE",
    "CacheConfig",
    "CalibrateConfig",
    "CheckConfig",
    "CompareConfig",
    "ComputeOptions",
    "DataOptions",
    "EnvConfig",
    "EvalConfig",
    "ExplainConfig",
    "FitDomainConfig",
    "ExportConfig",
    "ImageOptions",
    "ListingOptions",
    "MeasuringOptions",
    "PredictConfig",
    "PretrainConfig",
    "PreviewConfig",
    "ReportConfig",
    "ScoringOptions",
    "ServeConfig",
    "SplitConfig",
    "SynthConfig",
    "TraceConfig",
    "TrainConfig",
    "dump_yaml",
    "flag_of",
    "load_config",
    "read_yaml",
    "resumed",
    "validated",
]
