"""Parts of the training loop that are off by default: each one in a module of its own."""
