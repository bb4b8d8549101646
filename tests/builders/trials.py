"""Trials as the record has them, and strategies run to their end without any training."""

from avsc_core.record.trials import TrialRecord
from studies.engine.strategy import Strategy
from studies.study.plan import PlannedTrial


def told(acc: float) -> dict[str, float]:
    """Return the metrics that the record has of a trial with this Acc."""
    return {"selected_val_acc": acc, "selected_val_logloss": 1 - acc}


def record(trial: PlannedTrial, outcome: str, value: float | None = None) -> TrialRecord:
    """Return the record of a planned trial that ended with this outcome and Acc."""
    return TrialRecord(
        run_id=f"run-{trial.key}",
        key=trial.key,
        role=trial.role,
        arm=trial.arm,
        seed=trial.seed,
        outcome=outcome,
        config=trial.config,
        metrics={} if value is None else told(value),
        tags={"avsc.config": trial.config.model_dump_json()},
        started=0.0,
    )


def drain(strategy: Strategy, values: object = 0.5) -> list[PlannedTrial]:
    """Complete every trial that the strategy plans, in order, and return them.

    `values` is the Acc of each: a number, or a function of the trial.
    """
    trials = []
    while trial := strategy.next():
        trials.append(trial)
        strategy.finish(trial, "complete", told(values(trial) if callable(values) else values))
    return trials
