"""What a person sees of a study that runs."""

from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from avsc_core import terminal
from studies.engine import display as module
from studies.engine.display import Display
from studies.engine.strategy import Strategy
from studies.study.plan import make_plan
from tests.builders.studies import read

TWO = "question: q\nseeds: [0, 1]\narms: [{name: all}]\n"


def test_a_study_whose_worker_hangs_is_not_almost_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    strategy = Strategy(make_plan(read(tmp_path, TWO)), [])
    first, second = strategy.next(), strategy.next()
    assert first
    assert second
    display = Display(strategy, 1)
    display.update(second, 3, 0.5)
    display.finish(first, "failed", None, 50.0, "ValueError: it is broken")
    assert (
        f"failed   {first.label}: ValueError: it is broken, about 50 s" in capsys.readouterr().err
    )

    def show() -> str:
        console = Console(width=100)
        with console.capture() as capture:
            console.print(display.live.get_renderable())
        return capture.get()

    display.update(first, 0, None)
    (line,) = [line for line in show().splitlines() if first.label in line]
    assert "begins" in line
    assert "ago" not in line
    assert "about 50 s left" in show()
    now[0] = 40.0
    assert "about 10 s left" in show()
    now[0] = 300.0
    assert "later than expected" in show()
    assert "5.0 min ago" in show()


def test_a_bar_is_gone_when_its_work_is_done():
    """It would stand above the trials for the whole study."""
    bars = Progress()
    show = terminal._show_bars(bars)
    show("measuring the cost", 1, 2)
    show("reading clips", 1, 2)
    assert [task.description for task in bars.tasks if task.visible] == [
        "measuring the cost",
        "reading clips",
    ]
    show("measuring the cost", 2, 2)
    assert [task.description for task in bars.tasks if task.visible] == ["reading clips"]
