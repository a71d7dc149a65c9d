"""The command line: options in, one call out. Nothing here imports Paddle until a command runs."""

from pmtrain.cli.commands import app, main

__all__ = ["app", "main"]
