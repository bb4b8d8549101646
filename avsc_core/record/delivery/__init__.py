"""How what happens to the trials of a study comes into its record, which may be away."""
