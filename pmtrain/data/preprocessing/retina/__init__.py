"""Where the retina is in a photograph, and which eye it is."""
