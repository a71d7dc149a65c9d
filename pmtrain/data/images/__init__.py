"""Bytes of a file to uint8 pixels, or an error that names the file."""
