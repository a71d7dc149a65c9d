"""Metrics of scored images: values, intervals, thresholds, comparisons and curves. Imports only NumPy."""

from pmtrain.metrics.assessment import Assessed, Assessment, assess
from pmtrain.metrics.comparison import (
    Change,
    Comparison,
    Difference,
    PairedTest,
    ScoredSet,
    compare_scores,
    delong_test,
    mcnemar_test,
    unpaired_changes,
)
from pmtrain.metrics.curves import calibration_bins, pr_points, roc_band, roc_points
from pmtrain.metrics.decisions.net_benefit import DecisionCurve, decision_curve
from pmtrain.metrics.decisions.prevalence import AtPrevalence, assess_at_prevalence, shift_prior
from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    bootstrap_intervals,
    delong,
    delong_interval,
    sample_size,
    wilson,
)
from pmtrain.metrics.measures import MEASURES, Confusion, Measure, Value, bce, confusion, evaluate_measures
from pmtrain.metrics.strata import WithinStrata, auc_within_strata
from pmtrain.metrics.thresholds import ChosenThreshold, ThresholdRule, choose_threshold, parse_threshold_rule

__all__ = [
    "BOOTSTRAP",
    "MEASURES",
    "Assessed",
    "Assessment",
    "AtPrevalence",
    "Bootstrap",
    "Change",
    "ChosenThreshold",
    "Comparison",
    "Confusion",
    "DecisionCurve",
    "Difference",
    "Interval",
    "Measure",
    "PairedTest",
    "ScoredSet",
    "ThresholdRule",
    "Value",
    "WithinStrata",
    "assess",
    "auc_within_strata",
    "assess_at_prevalence",
    "bce",
    "bootstrap_intervals",
    "calibration_bins",
    "choose_threshold",
    "compare_scores",
    "unpaired_changes",
    "confusion",
    "decision_curve",
    "delong",
    "delong_interval",
    "delong_test",
    "evaluate_measures",
    "mcnemar_test",
    "parse_threshold_rule",
    "pr_points",
    "roc_band",
    "roc_points",
    "sample_size",
    "shift_prior",
    "wilson",
]
