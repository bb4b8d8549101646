"""The record: what MLflow keeps of studies, trials and trainings, written and read back."""
