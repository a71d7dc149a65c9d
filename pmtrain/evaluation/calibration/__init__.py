"""Probabilities that mean something: calibration, and other prevalences."""
