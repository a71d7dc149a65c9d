"""`pmtrain serve`: a network behind a page and a JSON endpoint on this machine."""
