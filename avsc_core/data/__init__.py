"""Data: from folders in TAU's layout to batches of log-mels and frames."""
