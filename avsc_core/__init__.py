"""avsc_core: the model, the data and the trainer for audio-visual scene classification.

For notebooks and scripts the package offers these names:

    import avsc_core

    config = avsc_core.load_config("demo", {"alignment.k": 10})
    result = avsc_core.train(config)                       # metrics and the id of the run
    scores = avsc_core.evaluate(result.run_id, split="validation")
    answer = avsc_core.predict(result.run_id, "clip.mp4")
    trials = avsc_core.open_study("lambda")                # a pandas DataFrame

Importing the package loads neither torch nor ray, optuna or mlflow: each name is loaded when it is
used for the first time (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsc_core.api import evaluate, load_config, load_model, open_study, predict, train
    from avsc_core.errors import EnvironmentFault, UserError

__version__ = "0.2.0"

__all__ = [
    "EnvironmentFault",
    "UserError",
    "evaluate",
    "load_config",
    "load_model",
    "open_study",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name; Python calls this for a name that the module does not have yet."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "errors" if name in ("EnvironmentFault", "UserError") else "api"
    value = getattr(import_module(f"avsc_core.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too, although they are not loaded yet."""
    return sorted({*globals(), *__all__})
