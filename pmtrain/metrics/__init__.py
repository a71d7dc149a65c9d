"""How good scores are: measures, their intervals, thresholds, comparisons and curves. NumPy alone at import."""

from pmtrain.metrics.measures import MEASURES, Confusion, Measure, Value, bce, confusion, evaluate_measures

__all__ = ["MEASURES", "Confusion", "Measure", "Value", "bce", "confusion", "evaluate_measures"]
