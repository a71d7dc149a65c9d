"""Several trainings as one: the folds of a cross-validation, or networks that differ in their seed."""
