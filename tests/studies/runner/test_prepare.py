"""What is looked at before the first trial (studies/runner/prepare.py)."""

from pathlib import Path

from avsc_core.data.dataset import DataSet
from avsc_core.processes import no_progress
from studies.runner.prepare import prepare_study
from studies.study.plan import make_plan
from tests.builders.configs import TINY
from tests.builders.studies import read

# The log-mels of TINY are four patches long, so 5 and 10 pieces make no configuration.
PIECES = """\
question: How many pieces?
search: {space: {audio.pieces: , loss_weights.scene: }, sampler: random, scheduler: none}
"""


def test_points_that_make_no_configuration_are_not_prepared(tmp_path: Path, data: DataSet):
    assert prepare_study(make_plan(read(tmp_path, PIECES, sets=TINY)), data, no_progress) == []
