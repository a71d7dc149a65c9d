"""Which image is on which side of a split, and who is on both."""
