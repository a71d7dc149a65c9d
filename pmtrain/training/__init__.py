"""Training: the step, the run, cross-validation, trackers."""
