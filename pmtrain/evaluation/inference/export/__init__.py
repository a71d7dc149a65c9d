"""A checkpoint as a model that runs without pmtrain."""
