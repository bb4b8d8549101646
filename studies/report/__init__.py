"""From the record of a study to a report: what was measured, how sure it is, and how to repeat it."""
