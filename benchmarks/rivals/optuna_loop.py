"""Optuna's own loop: two processes that share a study in an SQLite file."""

import sys
from multiprocessing import get_context
from pathlib import Path

import mlflow
import optuna

from benchmarks.rivals.training import HIGH, LOW, SEARCHED, train

STORAGE = "sqlite:///optuna.db"
STUDY = "loop"


def objective(trial: optuna.Trial) -> float:
    """Train a trial and record its epochs. Returns its best accuracy."""
    settings = {name: trial.suggest_float(name, LOW, HIGH, log=True) for name in SEARCHED}
    best = 0.0
    with mlflow.start_run():
        mlflow.log_params(settings)
        for number, metrics in enumerate(train(settings), start=1):
            mlflow.log_metrics(metrics, step=number)
            best = max(best, metrics["val_acc"])
    return best


def work(trials: int, uri: str) -> None:
    """Run so many trials of the study."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(STUDY)
    optuna.load_study(study_name=STUDY, storage=STORAGE).optimize(objective, n_trials=trials)


def main() -> None:
    """Run half of the trials in each of two processes."""
    trials, uri = int(sys.argv[1]), sys.argv[2]
    Path("optuna.db").unlink(missing_ok=True)
    optuna.create_study(study_name=STUDY, storage=STORAGE, direction="maximize")
    spawn = get_context("spawn")
    workers = [spawn.Process(target=work, args=(trials // 2, uri)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))


if __name__ == "__main__":
    main()
