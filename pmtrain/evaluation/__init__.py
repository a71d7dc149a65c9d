"""A trained network on images: scores, measures, predictions, explanations, the report."""
