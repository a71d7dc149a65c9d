"""A run's network on data of other places, beside the run's own images."""
