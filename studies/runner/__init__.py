"""The runner: one invocation of a study, from what must hold before it to its last trial."""
