"""A network's score for each image."""
