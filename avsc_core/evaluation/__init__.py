"""Evaluation of trained models: scores with intervals, tables and pictures, the map of classes, recorded trainings."""
