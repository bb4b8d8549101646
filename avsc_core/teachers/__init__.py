"""Teachers: published taggers, and the pseudo-labels made of what they say (Section IV)."""
