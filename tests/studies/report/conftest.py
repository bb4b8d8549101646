"""A record for reports, and studies in it with the reports they give."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from avsc_core.record.recorder import Recorder
from studies.report.blocks import Report
from studies.report.build import build_report
from studies.study.plan import make_plan
from studies.study.reading import read_study
from tests.builders.records import fresh_record
from tests.builders.reports import Outcome, complete, make_dataset, record_study


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return fresh_record(tmp_path_factory.mktemp("record"))


@pytest.fixture
def study(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Report]:
    """Record a study file's text and build its report."""
    monkeypatch.chdir(tmp_path)
    count = iter(range(1000))

    def make(text: str, embedded: bool = True, outcome: Outcome = complete) -> Report:
        name = f"{re.sub('[^a-z]', '', str(tmp_path.name))}{next(count)}"
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        plan = make_plan(read_study(path))
        record_study(recorder, plan, make_dataset(embedded), outcome)
        return build_report(recorder, name)

    return make
