"""The tables of trials that `avsc-search status` prints, and `run` at its end."""

from pathlib import Path

import pytest

from avsc_core.terminal import out
from studies.report.status import print_status
from studies.study.plan import make_plan
from studies.study.reading import read_study
from tests.builders.configs import TINY
from tests.builders.records import open_record_in
from tests.builders.reports import make_dataset, record_study

OTHER = """\
question: How do systems compare that differ in many settings?
base: {split.validation: 0.22}
arms:
  - {name: ours}
  - name: theirs
    set:
      training: {learning_rate: 0.002, weight_decay: 0.1, batch_size: 4, schedule: cosine, ema: 0.9}
      losses: {label_smoothing: 0.1, class_weights: balanced, coarse: 1}
      augmentation: {speed: 0.1, noise: 3, flip: 0.5, crop: 0.1, mixup: 0.2}
"""


def test_settings_that_do_not_fit_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "other.yaml"
    path.write_text(OTHER)
    recorder = open_record_in(tmp_path, "mlflow.db")
    record_study(recorder, make_plan(read_study(path, preset="demo", sets=TINY)), make_dataset())

    print_status(recorder, "other")
    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert all(len(line) <= out.width for line in printed.splitlines())
    assert "losses.class_weights" in printed
    assert "training.schedule" not in printed
    assert "11 more settings differ" in printed
