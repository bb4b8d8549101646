"""This package makes the embedded scenes, a small synthetic data set for first steps and for tests.

`scenes.py` plans the clips and writes them in TAU's layout, `sounds.py` makes what is heard in them
and `pictures.py` what is seen. The same seed gives the same bytes on any number of processes.
"""
