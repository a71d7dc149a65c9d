"""The version, and the notice that goes with every model, in a module that imports nothing."""

__version__ = "0.1.0"
NOTICE = "Research software, not a medical device: no clinical decision may rest on it alone."
