"""What fuzz.py is made of.

`kinds` is its table; `networks`, `data_sets` and `pictures` make files to begin with and `changes` changes them;
`reading` reads them, `watching` tells a fault from a refusal, `slices` does it in processes of their own, and `guided`
lets atheris choose the changes.
"""
