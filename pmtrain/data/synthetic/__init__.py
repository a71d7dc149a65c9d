"""The synthetic example set."""
