"""avsc_core: the model, the data and the trainer. Importing it loads neither torch nor ray, optuna or mlflow."""

__version__ = "0.1.0"
