"""Weights files, read and written."""
