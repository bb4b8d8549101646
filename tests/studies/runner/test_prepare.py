"""What is looked at before the first trial (studies/runner/prepare.py)."""

from pathlib import Path

import pytest

from avsc_core.data.dataset import DataSet
from avsc_core.errors import UserError
from avsc_core.processes import no_progress
from studies.runner.prepare import check_same_clips, prepare_study
from studies.study.metadata import CLIPS, format_clips
from studies.study.plan import make_plan
from tests.builders.configs import TINY
from tests.builders.records import fresh_record
from tests.builders.reports import make_dataset
from tests.builders.studies import read

# The log-mels of TINY are four patches long, so 5 and 10 pieces make no configuration.
PIECES = """\
question: How many pieces?
search: {space: {audio.pieces: , loss_weights.scene: }, sampler: random, scheduler: none}
"""


def test_points_that_make_no_configuration_are_not_prepared(tmp_path: Path, data: DataSet):
    assert prepare_study(make_plan(read(tmp_path, PIECES, sets=TINY)), data, no_progress) == []


def test_a_study_with_other_validation_clips_does_not_go_on(tmp_path: Path):
    """Another version drew the split of some data otherwise; the two are not comparable."""
    recorder = fresh_record(tmp_path)
    study = read(tmp_path, "question: q\narms: [{name: one}]\n")
    data = make_dataset()
    check_same_clips(recorder, study, data)  # nothing is recorded

    run_id = recorder.open_study_run("study", {}, {})
    check_same_clips(recorder, study, data)  # it was cut off before its clips were written
    recorder.log_text(run_id, CLIPS, format_clips(data, study.base))
    check_same_clips(recorder, study, data)
    other = study.base.model_copy(update={"split": study.base.split.model_copy(update={"seed": 1})})
    recorder.log_text(run_id, CLIPS, format_clips(data, other))
    with pytest.raises(UserError) as caught:
        check_same_clips(recorder, study, data)
    assert str(caught.value) == (
        f"{study.path}: study study is in the record with other validation clips;"
        " another version drew its split of these groups; use --name for a new study"
    )
