"""The lowest layer: errors, files, the console, the machine, Paddle."""
