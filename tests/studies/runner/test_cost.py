"""The cost card and the real probe.

What is counted, what is left after a restart, what fits into the hours allowed.
"""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.errors import EnvironmentFault, UserError
from avsc_core.processes import no_progress
from avsc_core.record.trials import FinishedTraining
from avsc_core.resolve import Override, parse_set, resolve
from avsc_core.terminal import format_duration
from avsc_core.trainer import measuring
from avsc_core.trainer import probe as probe_module
from avsc_core.trainer.probe import Measured, probe
from studies.engine.strategy import Strategy
from studies.runner import cost
from studies.runner.cost import Cost, estimate_cost, trim_search
from studies.study.plan import make_plan
from studies.study.schema import Resources
from tests.builders.configs import TINY
from tests.builders.disks import small_disk
from tests.builders.studies import LADDER, MODULES, SEARCH, read
from tests.builders.trials import drain, record

CARD = Cost(
    14, 140, 1.4, 13, 0.1, 2, 720.0, 2**30, 30, 2**20, "a device", "", 2.8, "CPU", 7.2, 2**20
)


@pytest.mark.parametrize(
    "sets", [[], ["modality=audio"], ["audio.freeze=all", "visual.freeze=all"], ["modality=visual"]]
)
def test_the_probe_measures_a_real_step(scenes: Path, sets: list[str]):
    config = resolve("demo", parse_set([*TINY, *sets]))
    measured = probe(config, 1)
    assert 0 < measured.predict < measured.step < 60
    assert 50e6 < measured.memory < measured.available
    assert measured.parameters > 1000
    assert probe(config, 1) == measured  # read, not measured again
    if sets == []:
        assert (
            measured.parameters
            > probe(resolve("demo", parse_set([*TINY, "modality=audio"])), 1).parameters
        )


def test_pieces_that_are_too_short_are_told_before_a_step(scenes: Path):
    sets = ["audio.backbone=convnext_atto", "audio.pieces=5", "modality=audio"]
    with pytest.raises(UserError, match=r"audio\.pieces: convnext_atto does not take pieces of 12"):
        probe(resolve("demo", parse_set([*TINY, *sets])), 1)


def break_pictures(config: Config) -> Config:
    """Return a configuration that a check of settings would refuse, and that no model can take."""
    pictures = config.pictures.model_copy(update={"size": 8})
    return config.model_copy(update={"pictures": pictures})


def test_a_cost_that_cannot_be_measured_ends_no_study(
    tmp_path: Path, data: DataSet, scenes: Path, capsys: pytest.CaptureFixture[str]
):
    plan = make_plan(read(tmp_path, MODULES, sets=list(TINY)))
    sound, broken = plan.trials[:2]
    trials = [sound, broken._replace(config=break_pictures(broken.config))]
    card = estimate_cost(Strategy(replace(plan, trials=trials), []), data, 1, no_progress)
    assert card.trials == 2
    assert card.longest > 0
    assert "note: the cost of some trials is unknown: RuntimeError: " in capsys.readouterr().err


def test_a_disk_that_is_full_during_the_probe_is_one_line(
    tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
):
    plan = make_plan(read(tmp_path, MODULES, sets=list(TINY)))
    cache = tmp_path / "cache"
    with small_disk(cache, "4k"):
        monkeypatch.setenv("AVSC_CACHE", str(cache))
        with pytest.raises(EnvironmentFault, match=rf"^disk: {cache}\S* has 0\.0 MB free; free"):
            estimate_cost(Strategy(plan, []), data, 1, no_progress)


def test_the_card_counts_what_is_left(tmp_path: Path, data: DataSet, scenes: Path):
    sets = list(TINY)
    plan = make_plan(read(tmp_path, MODULES + SEARCH + "retune: 3\n", sets=sets))
    card = estimate_cost(Strategy(plan, []), data, 2, no_progress)
    assert (
        card.trials == 8 + 4 * 3 + 4 * 1
    )  # arms with two seeds, their searches, the best of each with the other seed
    assert card.epochs == card.trials * 3
    done = [record(trial, "complete", 0.5) for trial in plan.trials]
    left = estimate_cost(Strategy(plan, done), data, 2, no_progress)
    assert left.trials == card.trials - 8
    assert 0 < left.hours < card.hours
    train, validation, _ = split_rows(data, plan.study.base.split)
    size = plan.study.base.training.batch_size
    kinds = [probe(trial.config, 1) for trial in plan.trials]
    seconds = [
        3 * (ceil(len(train) / size) * each.step + ceil(len(validation) / size) * each.predict)
        for each in kinds
    ]
    assert card.hours - left.hours == pytest.approx(sum(seconds) / 3600 / 2)
    assert card.longest == pytest.approx(max(seconds))


def test_more_places_than_trials_make_no_trial_shorter(tmp_path: Path, data: DataSet, scenes: Path):
    plan = make_plan(read(tmp_path, "question: q\narms: [{name: one}]\n", sets=TINY))
    card = estimate_cost(Strategy(plan, []), data, 8, no_progress)
    assert card.hours == pytest.approx(card.longest / 3600)


def test_only_what_changes_the_cost_is_probed(
    tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
):
    arms = [
        "training.learning_rate: 0.1",
        "training.epochs: 6",
        "loss_weights.scene: 2",
        "training.batch_size: 4",
        "alignment.k: 7",
    ]
    lines = "".join(
        f"  - {{name: {name}, set: {{{setting}}}}}\n"
        for name, setting in zip("abcde", arms, strict=True)
    )
    asked: list[Config] = []
    steps: list[tuple[int, int]] = []

    def measured(config: Config, threads: int) -> Measured:
        asked.append(config)
        return Measured("a device", 1.0, 0.5, 2**30, 2**33, 1000)

    monkeypatch.setattr(cost, "probe", measured)
    text = f"question: q\narms:\n{lines}"
    card = estimate_cost(
        Strategy(make_plan(read(tmp_path, text, sets=TINY)), []),
        data,
        1,
        lambda what, done, total: steps.append((done, total)),
    )
    assert steps == [(0, 2), (1, 2), (2, 2)]  # measurements, not the five trials
    assert [config.training.batch_size for config in asked] == [8, 4]
    assert [config.device for config in asked] == ["cpu", "cpu"]  # as the trials are told
    assert card.longest == pytest.approx(
        6 * 3
    )  # measured with the others, counted by its own six epochs
    estimate_cost(
        Strategy(make_plan(read(tmp_path, text, sets=TINY, gpus=0.5)), []), data, 1, no_progress
    )
    assert asked[-1].device == "auto"


@pytest.mark.parametrize(
    "error",
    [
        BrokenProcessPool("killed"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_fit_is_told_in_one_line(
    tiny: Config, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    def fails(config: Config, name: str, threads: int) -> None:
        raise error

    monkeypatch.setenv("AVSC_CACHE", str(tmp_path))
    monkeypatch.setattr(probe_module, "process_pool", ThreadPoolExecutor)
    monkeypatch.setattr(measuring, "measure", fails)
    with pytest.raises(EnvironmentFault) as caught:
        probe(tiny, 1)
    told = str(caught.value)
    assert told.startswith("memory: a step of 8 clips does not fit into the memory of ")
    assert told.endswith(
        "; a smaller training.batch_size, compute.micro_batch, compute.checkpointing, "
        "or another machine"
    )


def test_a_ladder_costs_its_upper_rung(tmp_path: Path, data: DataSet, scenes: Path):
    text = LADDER.replace("demo]", "{training.epochs: 5}]")
    plan = make_plan(read(tmp_path, text, sets=TINY))
    card = estimate_cost(Strategy(plan, []), data, 1, no_progress)
    assert (card.trials, card.searched) == (1 + 4 + 2 * 3, 4)
    assert card.epochs == 2 * 5 + 5 * 6
    trials = drain(Strategy(plan, []))
    for cut in (3, 7, 10, 11):  # on the cheap rung, on the full one, over
        records = [record(trial, "complete", 0.5) for trial in trials[:cut]]
        assert estimate_cost(Strategy(plan, records), data, 1, no_progress).trials == 11 - cut


def test_hours_cut_the_search_or_refuse(tmp_path: Path):
    study = read(
        tmp_path,
        "question: q\narms: [{name: one}]\nsearch: {space: {loss_weights: }, trials: 13}\n",
    )
    assert trim_search(study, CARD, 2.0) is study
    less = trim_search(study, CARD, 0.95)
    assert less.search is not None
    assert less.search.trials == 13 - 5
    with pytest.raises(UserError):
        trim_search(
            study, replace(CARD, searched=4), 0.95
        )  # the rest of the search is in the record already
    with pytest.raises(UserError) as caught:
        trim_search(study, CARD, 0.1)
    told = "--max-hours: 14 trials take up to 1.4 h, 0.1 h are allowed; "
    assert str(caught.value) == told + "fewer seeds or arms, a cheaper preset, or more hours"
    with pytest.raises(UserError):
        trim_search(replace(study, search=None), CARD, 1.0)
    with pytest.raises(UserError):
        trim_search(
            study, replace(CARD, longest=3600.0), 0.95
        )  # fewer trials do not make one of them shorter


@pytest.mark.parametrize(
    ("want", "have", "places"),
    [
        ((1, 0), (8, 0), 8),
        ((2, 0), (9, 1), 4),
        ((1, 0.25), (16, 2), 8),
        ((1, 0.3), (16, 1), 3),
        ((4, 0.5), (8, 8), 2),
        ((1, 1), (4, 0), 0),
        ((0.1, 0), (2, 0), 20),
        ((0.1, 0), (1, 0), 10),
        ((0.7, 0), (2.1, 0), 3),
        ((0.1, 0.1), (1, 1), 10),
    ],
)
def test_room(want: tuple[float, float], have: tuple[float, float], places: int):
    assert Resources(cpus=want[0], gpus=want[1]).count_places(*have) == places


def test_durations_as_people_say_them():
    told = [format_duration(seconds) for seconds in (5, 89, 200, 9000, 200_000)]
    assert told == ["5 s", "89 s", "3.3 min", "2.5 h", "2.3 days"]


def test_a_batch_too_slow_to_run_whole_is_reckoned_from_two_clips(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []

    def two_seconds(
        model: object, config: Config, count: int, device: object
    ) -> tuple[float, float]:
        asked.append(count)
        return 2.0, 0.5

    monkeypatch.setattr(measuring, "_time_work", two_seconds)
    config = resolve("demo", [*parse_set(TINY), Override("training.batch_size", 8, "test")])
    measured = measuring.measure(config, "here", 1)
    assert asked == [2]
    assert (measured.step, measured.predict) == (8.0, 2.0)
    monkeypatch.setattr(measuring, "SLOW_SECONDS", 3.0)
    whole = measuring.measure(config, "here", 1)
    assert asked == [2, 2, 8]
    assert (whole.step, whole.predict) == (2.0, 0.5)
    assert measured.memory > whole.memory  # two clips' memory, grown to eight


def test_the_card_has_the_hours_of_devices_and_what_rows_share(
    tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
):
    measured = Measured("a device", 1.0, 0.5, 2**30, 2**33, 1000)
    monkeypatch.setattr(cost, "probe", lambda config, threads: measured)
    (tmp_path / "one.yaml").write_text("question: q\narms: [{name: a}, {name: b}]\n")
    plan = make_plan(read(tmp_path, "question: q\ntables: [one]\n", sets=TINY, cpus=2))
    card = estimate_cost(Strategy(plan, []), data, 1, no_progress)
    assert card.device_hours == pytest.approx(2 * card.hours)  # two CPUs
    assert ["rows", "2 rows ask for 1 trainings"] in card.make_rows()
    assert any("CPU-hours" in row[1] for row in card.make_rows())

    with_gpu = make_plan(read(tmp_path, "question: q\ntables: [one]\n", sets=TINY, gpus=0.5))
    card = estimate_cost(Strategy(with_gpu, []), data, 1, no_progress)
    assert (card.device_hours, card.device_unit) == (pytest.approx(0.5 * card.hours), "GPU")


def test_what_is_taken_over_costs_nothing(tmp_path: Path, data: DataSet, scenes: Path):
    plan = make_plan(read(tmp_path, MODULES, sets=TINY))
    key = plan.trials[0].key
    elsewhere = {key: FinishedTraining("run", "other", key)}
    whole = estimate_cost(Strategy(plan, []), data, 1, no_progress)
    left = estimate_cost(Strategy(plan, [], elsewhere=elsewhere), data, 1, no_progress)
    assert (whole.trials, left.trials) == (8, 7)
    assert left.hours < whole.hours
