"""Splits and folds, the record of them, and leakage between them."""
