"""What Ray keeps of a trial as long as a study runs is little, without its predictions.

They are taken out by studies/engine/callback.py.
"""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
from ray.tune.experiment import Trial

from avsc_core.data.dataset import split_rows
from avsc_core.record.delivery.writer import Writer
from studies.engine.callback import RecordCallback
from studies.engine.deaths import Recovery
from studies.engine.display import Display
from studies.engine.strategy import Strategy
from studies.study.plan import make_plan
from tests.builders.records import fresh_record
from tests.builders.reports import make_dataset
from tests.builders.studies import read

TEXT = """\
question: q
base: {training.epochs: 3}
search: {space: {loss_weights.scene: }, trials: 30, sampler: random, scheduler: none}
"""


def test_the_driver_keeps_little_of_a_trial(tmp_path: Path, monkeypatch):
    """Results go through Ray's own trials, in the order in which its controller handles them."""
    monkeypatch.chdir(tmp_path)
    data = make_dataset()
    plan = make_plan(read(tmp_path, TEXT))
    study = plan.study
    strategy = Strategy(plan, [])
    recorder = fresh_record(tmp_path)
    writer = Writer(recorder, study.name)
    callback = RecordCallback(
        study, data, writer, "parent", strategy, Display(strategy, 1), Recovery()
    )
    scenes = data.scenes[split_rows(data, study.base.split).validation]
    kept = []

    def run_trial() -> None:
        planned = strategy.next()
        trial = Trial("StudyTrial", stub=True)
        callback.open_trial(trial.trial_id, planned)
        for epoch in (1, 2, 3):
            # As many numbers as a report has, and predictions of the whole data set's size.
            result = {
                "epoch": epoch,
                study.metric: 0.5,
                "metrics": {f"metric {number}": 0.5 for number in range(20)},
                "summary": {f"{study.metric}": 0.5, "selected_val_acc": 0.5},
                "seconds": 1.0,
                "peak": 10**9,
                "missing": "",
                "notes": [],
                "environment": {"avsc.device": "cpu", "avsc.threads": "1"},
            }
            if epoch == 3:
                result |= {"done": True, "outcome": "complete"}
                result["probability"] = np.full((len(scenes) * 10, 10), 0.1).tolist()
            callback.on_trial_result(trial=trial, result=result)
            trial.update_last_result(result)
        callback.on_trial_complete(trial=trial)
        kept.append(trial)

    with writer:
        # The first trial fills caches that all trials share.
        run_trial()
        writer.wait_until_delivered()
        tracemalloc.start()
        for _ in range(10):
            run_trial()
        writer.wait_until_delivered()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

    assert grown / 10 < 50_000
    assert all(len(pickle.dumps(trial.last_result)) < 1_000 for trial in kept)
    trials = recorder.list_trials(study.name)
    assert [trial.outcome for trial in trials] == ["complete"] * 11
    assert all(trial.metrics["selected_val_acc"] == 0.5 for trial in trials)
    assert all(recorder.has_artifact(trial.run_id, "predictions_val.tsv") for trial in trials)
