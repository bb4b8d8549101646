"""Ray Tune as its tutorials show it: Optuna's sampler, MLflow's callback, a function a trial."""

import sys
import tempfile

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks.rivals.training import HIGH, LOW, SEARCHED, train


def train_trial(settings: dict[str, float]) -> None:
    """Train a trial, and report its epochs."""
    for metrics in train(settings):
        tune.report(metrics)


def main() -> None:
    """Run the trials."""
    trials, uri = int(sys.argv[1]), sys.argv[2]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name="tutorial")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(train_trial, {"cpu": 1}),
            param_space={name: tune.loguniform(LOW, HIGH) for name in SEARCHED},
            tune_config=tune.TuneConfig(
                metric="val_acc", mode="max", num_samples=trials, search_alg=OptunaSearch()
            ),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[callback], verbose=0),
        )
        tuner.fit()


if __name__ == "__main__":
    main()
