"""This package turns folders of recordings into batches of log-mels and frames.

Reading: `tau.py` and `own.py` read tables into clips, `dataset.py` adds labels and splits,
`inspect.py` checks it all. Features: `media.py` and `logmel.py` decode a clip's files,
`clip_features.py` computes one clip, `features.py` keeps the arrays of a whole data set in the
cache. Training: `batches.py` serves them, `augment.py` changes them at random.
"""
