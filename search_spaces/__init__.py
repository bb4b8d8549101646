"""search_spaces: which settings can be searched, within which bounds, and by which sampler.

catalogue.py    the dimensions, their conditions, groups of them, names of samplers
domains.py      the values that a dimension can take
inactive.py     settings without effect in a configuration
space.py        a study's space: dimensions with their domains
building.py     a study file's `space:` -> a space, or its faults
sampling.py     values for the next trial, by Optuna
importance.py   which dimensions mattered
"""
