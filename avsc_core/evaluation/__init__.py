"""Evaluation of trained models: scores, intervals, pictures, the map of classes, recorded runs."""
