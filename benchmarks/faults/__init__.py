"""Faults injected into studies, each followed by the same command again: what is lost?

    python -m benchmarks.faults [--kind NAME]... [--fresh]        (or: make faults)

Every case runs a tiny study with one worker in a folder of its own, disturbs it, gives the same
command again, and compares the record with that of the undisturbed study: finished trials that are
lost, trials that were run twice, trials that silently began again, values that differ, commands
that ended otherwise than they may. docs/reliability.md shows the table.

    place.py     where a case runs, and how commands are started there
    forked.py    a command in a forked process, with a stand-in for Ray's loop: a second, not ten
    hooks/       what is put into every process of a command: a log of the epochs that are trained
    record.py    reads an SQLite record without the product's own code
    judge.py     compares with the undisturbed study
    killed.py, damaged.py, contested.py    the kinds of faults
"""
