"""Reports of studies: everything here reads the record, and nothing trains.

`study_results.py` reads a study's record. `sections/` makes the words and tables of the report from
it, on the estimates of `estimates.py`; `figures.py` and `search_figures.py` make its pictures.
`build.py` puts these blocks in order, and `render.py` turns them into every format. `status.py` and
`export.py` serve the commands of these names.
"""
