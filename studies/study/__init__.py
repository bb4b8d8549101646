"""studies.study: a study from its file to the trials that it runs.

schema.py     the parts of a file, and the checked study
reading.py    a file and the command line -> a checked study
parsing.py    content -> typed parts; settings -> configurations
checking.py   rules across the parts
arms.py       arms, and the designs of ablations
search.py     the search of a study
tables.py     arms that a study takes over from other study files
plan.py       a checked study -> its trials
metadata.py   what the record keeps of a study for its report
"""
