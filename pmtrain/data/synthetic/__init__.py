"""The built-in example set, drawn by a program."""
