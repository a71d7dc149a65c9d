"""Whether images are of the kind that a network was trained on."""
