"""The runner: what happens when a study runs. A plan -> trials -> the record."""
