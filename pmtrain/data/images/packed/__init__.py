"""Files that contain many images: archives, files of arrays, Parquet files."""
