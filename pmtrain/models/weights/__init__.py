"""Weights of other libraries: names and layouts of parameters."""
