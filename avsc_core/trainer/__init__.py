"""The trainer: one training loop with its step, inference, checkpoints, and what a step costs."""
