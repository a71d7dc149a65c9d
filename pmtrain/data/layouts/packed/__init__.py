"""Data sets in files of arrays and Parquet files."""
