"""The report's pictures, drawn by matplotlib without a screen.

Colours are Okabe and Ito's, which people with any colour vision tell apart; markers or dashes differ as well.
"""

from collections.abc import Callable
from functools import partial
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from avsc_core.evaluation.intervals import Estimate
from avsc_core.metrics import count_confusions
from search_spaces.domains import Choice
from studies.report.blocks import NAMES, Picture
from studies.report.compared import level
from studies.report.gather import Gathered, Row
from studies.report.searched import front, importances, points, rung, values

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
DASHES = ("-", "--", "-.", ":")
CURVES = 8  # rows with a learning curve; more are a thicket


def pictures(study: Gathered, label: str) -> list[Picture]:
    """Every picture that the study's record can fill; `label` is written on each."""
    rows = [row for row in study.rows if row.trials]
    made: list[Picture] = []

    def add(key: str, title: str, says: str, draw: Callable[[], Figure]) -> None:
        made.append(Picture(key, title, says, partial(_labelled, draw, label)))

    if len(rows) > 1:
        add(
            "rows",
            "Rows with their intervals",
            "Acc and Logloss of every row",
            partial(_rows, study, rows),
        )
    factors = list(rows[0].levels) if rows else []
    if study.about["design"] == "factorial" and len(factors) == 2:
        says = f"Acc by {factors[0]}, a line for each {factors[1]}"
        add("factors", "Factors", says, partial(_factors, study, factors))
    if rows:
        says = "Acc and Logloss on validation by epoch"
        title = "Learning curves" + (f" of the first {CURVES} rows" if len(rows) > CURVES else "")
        add("curves", title, says, partial(_curves, study, rows[:CURVES]))
        best = (max if study.metric == "val_acc" else min)(
            rows, key=lambda row: row.mean(study.metric)
        )
        shown = [best] if best is rows[0] else [rows[0], best]
        names = " and ".join(row.name for row in shown)
        add(
            "confusion",
            "Confusions",
            f"decided scenes by true scenes of {names}",
            partial(_confusions, study, shown),
        )
    if study.searched and study.space:
        if len(study.metrics) > 1:
            add(
                "pareto",
                "Pareto front, drawn" + rung(study),
                "both metrics of every complete trial",
                partial(_pareto, study),
            )
        if importances(study)[0].shares:
            says = "share of importance by dimension"
            add(
                "importance",
                "What mattered, drawn" + rung(study),
                says,
                partial(_importance, study),
            )
            says = f"{NAMES[study.metric]} by the value of each dimension"
            add("slices", "Slices" + rung(study), says, partial(_slices, study))
    return made


def _labelled(draw: Callable[[], Figure], label: str) -> Figure:
    figure = draw()
    if label:
        figure.supxlabel(label, x=0.99, ha="right", fontsize=7, color="#aa0000")
    return figure


def _rows(study: Gathered, rows: list[Row]) -> Figure:
    figure = Figure(figsize=(9, 1.2 + 0.33 * len(rows)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("acc", "logloss"), strict=True):
        for place, row in enumerate(rows):
            found = level(study, row, metric)
            assert found is not None
            style = (
                {"fmt": "s", "color": COLOURS[4]}
                if row.selected
                else {"fmt": "o", "color": COLOURS[0]}
            )
            label = "picked by its figures, 95 %" if row.selected else "mean, 95 %"
            axes.errorbar(found.value, place, xerr=_reach(found), capsize=3, label=label, **style)
            seeds = [row.trials[seed].metrics[f"best_val_{metric}"] for seed in sorted(row.trials)]
            if len(seeds) > 1:
                axes.plot(
                    seeds,
                    [place] * len(seeds),
                    "|",
                    color="#555555",
                    markersize=9,
                    label="each seed",
                )
            theirs = (row.published or {}).get(metric)
            if theirs is not None and not study.embedded:
                axes.plot(
                    theirs,
                    place,
                    "D",
                    color=COLOURS[1],
                    markerfacecolor="none",
                    label="published, other clips",
                )
        axes.set_yticks(range(len(rows)), [_plain(row.name) for row in rows])
        axes.set_xlabel(NAMES[metric])
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(
        once.values(), once.keys(), loc="outside upper right", ncols=len(once), fontsize=7
    )
    return figure


def _reach(found: Estimate) -> np.ndarray:
    """Of an interval to both sides of its figure; none where there is no interval."""
    reach: np.ndarray = np.nan_to_num([[found.value - found.low], [found.high - found.value]])
    return reach


def _plain(name: str) -> str:
    """What people called something, as text: matplotlib reads $ as mathematics and leaves _names out of legends."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def _factors(study: Gathered, factors: list[str]) -> Figure:
    """Two factors: the one with more levels along the axis, a line for each level of the other."""
    arms = [row for row in study.arms if row.levels and row.trials]
    levels = [list(dict.fromkeys(row.levels[name] for row in arms)) for name in factors]
    along, lines = (0, 1) if len(levels[0]) >= len(levels[1]) else (1, 0)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("acc", "logloss"), strict=True):
        for number, (line, colour) in enumerate(zip(levels[lines], cycle(COLOURS), strict=False)):
            for row in (own := [row for row in arms if row.levels[factors[lines]] == line]):
                found = level(study, row, metric)
                assert found is not None
                place = levels[along].index(row.levels[factors[along]]) + 0.08 * number
                axes.errorbar(
                    place, found.value, yerr=_reach(found), color=colour, capsize=3, alpha=0.6
                )
            places = [
                levels[along].index(row.levels[factors[along]]) + 0.08 * number for row in own
            ]
            means = [row.mean(f"val_{metric}") for row in own]
            label = _plain(f"{factors[lines]} {line}")
            axes.plot(places, means, "os^D"[number % 4] + "-", color=colour, label=label)
        axes.set_xticks(range(len(levels[along])), map(_plain, levels[along]))
        axes.set(xlabel=_plain(factors[along]), ylabel=NAMES[metric])
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _curves(study: Gathered, rows: list[Row]) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("val_acc", "val_logloss"), strict=True):
        for row, colour, dashes in zip(rows, cycle(COLOURS), cycle(DASHES), strict=False):
            curves = [
                study.recorder.read_history(trial.run_id, metric) for trial in row.trials.values()
            ]
            for curve in curves if len(curves) > 1 else []:
                axes.plot(*zip(*curve, strict=True), color=colour, alpha=0.25, linewidth=0.7)
            shortest = min(map(len, curves))
            mean = np.mean([[value for _, value in curve[:shortest]] for curve in curves], axis=0)
            axes.plot(
                range(1, shortest + 1), mean, color=colour, linestyle=dashes, label=_plain(row.name)
            )
        axes.set(xlabel="epoch", ylabel=NAMES[metric])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def _confusions(study: Gathered, rows: list[Row]) -> Figure:
    figure = Figure(figsize=(5.6 * len(rows), 5.4), layout="constrained")
    names = [scene.replace("_", " ") for scene in study.scene_names]
    for axes, row in zip(
        np.atleast_1d(np.asarray(figure.subplots(1, len(rows)))), rows, strict=True
    ):
        counts = sum(
            count_confusions(table, study.clips.scenes) for table in study.probability(row)
        )
        share = np.asarray(counts) / np.maximum(np.asarray(counts).sum(1, keepdims=True), 1)
        axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        for true, decided in np.argwhere(share > 0):
            colour = "white" if share[true, decided] > 0.5 else "black"
            text = f"{100 * share[true, decided]:.0f}"
            axes.text(decided, true, text, ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(xlabel="decided", ylabel="true", title=f"{_plain(row.name)}, % of each true scene")
    return figure


def _pareto(study: Gathered) -> Figure:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    told = np.array([values(study, trial) for trial in study.searched])
    best = np.array([values(study, trial) for trial in front(study)])
    axes.plot(told[:, 0], told[:, 1], "o", color=COLOURS[0], alpha=0.5, label="complete trials")
    ordered = best[np.argsort(best[:, 0])]
    axes.plot(ordered[:, 0], ordered[:, 1], "s-", color=COLOURS[1], label="beaten by none in both")
    axes.set(xlabel=NAMES[study.metrics[0]], ylabel=NAMES[study.metrics[1]])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _importance(study: Gathered) -> Figure:
    found = importances(study)
    keys = list(found[0].shares)
    figure = Figure(figsize=(7, 1 + 0.35 * len(keys)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(found)
    for place, (metric, each) in enumerate(zip(study.metrics, found, strict=True)):
        offsets = np.arange(len(keys)) + place * height
        own = [each.shares.get(key, 0.0) for key in keys]
        axes.barh(offsets, own, height, color=COLOURS[place], label=NAMES[metric])
        axes.axvline(
            each.chance,
            color=COLOURS[place],
            linestyle=":",
            label=f"{NAMES[metric]}, by chance at most",
        )
    axes.set_yticks(np.arange(len(keys)) + height * (len(found) - 1) / 2, keys)
    axes.set_xlabel("share of importance")
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure


def _slices(study: Gathered) -> Figure:
    assert study.space is not None
    domains = study.space.dimensions
    wide = min(3, len(domains))
    high = -(-len(domains) // wide)
    figure = Figure(figsize=(3.1 * wide, 2.5 * high), layout="constrained")
    told = [values(study, trial)[0] for trial in study.searched]
    grid = np.atleast_1d(np.asarray(figure.subplots(high, wide, sharey=True))).ravel()
    for axes, (key, domain) in zip(grid, domains.items(), strict=False):
        own = [
            (point[key], value)
            for point, value in zip(points(study), told, strict=True)
            if key in point
        ]
        along = [value for value, _ in own]
        if isinstance(domain, Choice):
            along = [domain.values.index(value) for value in along]
            axes.set_xticks(range(len(domain.values)), map(str, domain.values), fontsize=7)
            axes.set_xlim(-0.5, len(domain.values) - 0.5)
        else:
            axes.set_xscale("log" if domain.log else "linear")
            room = (
                (domain.high / domain.low) ** 0.03
                if domain.log
                else 0.03 * (domain.high - domain.low)
            )
            ends = (
                (domain.low / room, domain.high * room)
                if domain.log
                else (domain.low - room, domain.high + room)
            )
            axes.set_xlim(*ends)
        axes.plot(along, [value for _, value in own], "o", color=COLOURS[0], alpha=0.6)
        axes.set_xlabel(key, fontsize=8)
        axes.grid(alpha=0.3)
    for axes in grid[len(domains) :]:
        axes.set_visible(False)
    for axes in grid[::wide]:
        axes.set_ylabel(NAMES[study.metric], fontsize=8)
    return figure
