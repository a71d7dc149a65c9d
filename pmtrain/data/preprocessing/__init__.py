"""Decoded pixels to what the network sees."""
