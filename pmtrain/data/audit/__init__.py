"""Is this data set fit to learn from?"""
