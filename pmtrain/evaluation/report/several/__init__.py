"""Several trainings as one page: the folds of a cross-validation, or networks that differ in their seed."""
