"""Read tables from text and Excel files."""
