"""How people search without avsc: the rivals of `benchmarks/search.py`, written with care.

Each trains the same model on the same data, two trials at a time, one thread each, with the record
made beforehand and the features in the cache. Each is a program: `PROGRAM TRIALS TRACKING_URI`.
"""
