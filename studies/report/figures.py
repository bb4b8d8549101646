"""The report's pictures of rows: intervals, factors, learning curves and confusions.

Matplotlib draws them without a screen. Colours are Okabe and Ito's, which people with any colour
vision tell apart; markers or dashes differ as well. Every `make_..._picture` returns None when the
record has nothing to draw.
"""

from functools import partial
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from avsc_core.evaluation.figures import draw_confusion_matrix
from avsc_core.evaluation.intervals import Estimate
from avsc_core.metrics import count_confusions, sign_of
from studies.report.blocks import METRIC_TITLES, Picture
from studies.report.estimates import CLIP_VALUES, estimate_level
from studies.report.sections.effects import list_levels
from studies.report.study_results import ReportRow, StudyResults, best_value

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^D"
MOST_CURVES = 8  # rows with a learning curve; more cannot be told from each other
LINE_SHIFT = 0.08  # between the lines of a factor's levels, so that their intervals do not overlap


def make_rows_picture(study: StudyResults) -> Picture | None:
    """Picture the intervals of all rows, when there are several."""
    rows = _list_drawn_rows(study)
    if len(rows) < 2:
        return None
    return Picture(
        key="rows",
        title="Rows with their intervals",
        alt_text="Acc and Logloss of every row",
        draw=partial(_draw_rows, study, rows),
    )


def make_factors_picture(study: StudyResults) -> Picture | None:
    """Picture a factorial of two factors."""
    rows = _list_drawn_rows(study)
    factors = list(rows[0].levels) if rows else []
    if not study.is_factorial or len(factors) != 2:
        return None
    return Picture(
        key="factors",
        title="Factors",
        alt_text=f"Acc by {factors[0]}, a line for each {factors[1]}",
        draw=partial(_draw_factors, study, factors),
    )


def make_curves_picture(study: StudyResults) -> Picture | None:
    """Picture the learning curves of the first rows."""
    rows = _list_drawn_rows(study)
    if not rows:
        return None
    title = "Learning curves"
    if len(rows) > MOST_CURVES:
        title += f" of the first {MOST_CURVES} rows"
    return Picture(
        key="curves",
        title=title,
        alt_text="Acc and Logloss on validation by epoch",
        draw=partial(_draw_curves, study, rows[:MOST_CURVES]),
    )


def make_confusion_picture(study: StudyResults) -> Picture | None:
    """Picture the confusions of the first row and of the best one."""
    rows = _list_drawn_rows(study)
    if not rows:
        return None
    best = max(rows, key=lambda row: sign_of(study.metric) * row.mean(study.metric))
    shown = [best] if best is rows[0] else [rows[0], best]
    names = " and ".join(row.name for row in shown)
    return Picture(
        key="confusion",
        title="Confusions",
        alt_text=f"decided scenes by true scenes of {names}",
        draw=partial(_draw_confusions, study, shown),
    )


def make_figure(study: StudyResults, width: float, height: float) -> Figure:
    """Make an empty figure, which says that it is not of real streets when it is not."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if study.label:
        figure.supxlabel(study.label, x=0.99, ha="right", fontsize=7, color="#aa0000")
    return figure


def _list_drawn_rows(study: StudyResults) -> list[ReportRow]:
    return [row for row in study.rows if row.trials]


def _draw_rows(study: StudyResults, rows: list[ReportRow]) -> Figure:
    """Draw a line of marks for every row: mean with interval, seeds, and the published figure."""
    figure = make_figure(study, 9, 1.2 + 0.33 * len(rows))
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), CLIP_VALUES, strict=True):
        for place, row in enumerate(rows):
            _draw_row(axes, study, row, metric, place)
        axes.set_yticks(range(len(rows)), [_escape(row.name) for row in rows])
        axes.set_xlabel(METRIC_TITLES[metric])
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()

    # Every row brings the same labels; the legend has each of them once.
    handles, labels = axes.get_legend_handles_labels()
    legend = dict(zip(labels, handles, strict=True))
    figure.legend(
        legend.values(), legend.keys(), loc="outside upper right", ncols=len(legend), fontsize=7
    )
    return figure


def _draw_row(axes: Axes, study: StudyResults, row: ReportRow, metric: str, place: int) -> None:
    """Draw the marks of one row at the height `place`."""
    # The mean with its interval; rows that were selected by it look different.
    level = estimate_level(study, row, metric)
    axes.errorbar(
        level.value,
        place,
        xerr=_reach_of(level),
        capsize=3,
        label="selected by this figure, 95 %" if row.selected else "mean, 95 %",
        fmt="s" if row.selected else "o",
        color=COLOURS[4] if row.selected else COLOURS[0],
    )

    # The figure of each seed, when there are several.
    values = [best_value(row.trials[seed], f"val_{metric}") for seed in sorted(row.trials)]
    if len(values) > 1:
        axes.plot(
            values, [place] * len(values), "|", color="#555555", markersize=9, label="each seed"
        )

    # The published figure, which is of real streets.
    published = (row.published or {}).get(metric)
    if published is not None and not study.label:
        axes.plot(
            published,
            place,
            "D",
            color=COLOURS[1],
            markerfacecolor="none",
            label="published, other clips",
        )


def _draw_factors(study: StudyResults, factors: list[str]) -> Figure:
    """Draw two factors: the one with more levels along the axis, a line for each of the other's."""
    arms = [row for row in study.arms if row.levels and row.trials]
    along, lines = sorted(factors, key=lambda name: -len(list_levels(arms, name)))
    levels = list_levels(arms, along)

    figure = make_figure(study, 9, 3.4)
    for axes, metric in zip(figure.subplots(1, 2), CLIP_VALUES, strict=True):
        # Colours repeat when there are more lines than colours.
        for number, line in enumerate(list_levels(arms, lines)):
            colour = COLOURS[number % len(COLOURS)]
            rows = [row for row in arms if row.levels[lines] == line]
            # Each arm at the place of its level, with its interval.
            places = []
            means = []
            for row in rows:
                place = levels.index(row.levels[along]) + LINE_SHIFT * number
                level = estimate_level(study, row, metric)
                reach = _reach_of(level)
                axes.errorbar(place, level.value, yerr=reach, color=colour, capsize=3, alpha=0.6)
                places.append(place)
                means.append(row.mean(f"val_{metric}"))

            # The line through the arms.
            marks = MARKERS[number % len(MARKERS)] + "-"
            axes.plot(places, means, marks, color=colour, label=_escape(f"{lines} {line}"))

        axes.set_xticks(range(len(levels)), map(_escape, levels))
        axes.set(xlabel=_escape(along), ylabel=METRIC_TITLES[metric])
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _draw_curves(study: StudyResults, rows: list[ReportRow]) -> Figure:
    """Draw the mean learning curve of every row, and those of its seeds as thin lines."""
    figure = make_figure(study, 9, 3.6)
    for axes, metric in zip(figure.subplots(1, 2), ("val_acc", "val_logloss"), strict=True):
        for row, colour, dashes in zip(rows, cycle(COLOURS), cycle(DASHES), strict=False):
            curves = [study.read_curve(trial, metric) for trial in row.trials.values()]
            # A thin line for each seed, when there are several.
            if len(curves) > 1:
                for curve in curves:
                    axes.plot(*zip(*curve, strict=True), color=colour, alpha=0.25, linewidth=0.7)

            # The mean goes as far as the shortest curve.
            epochs = min(len(curve) for curve in curves)
            values = [[value for _, value in curve[:epochs]] for curve in curves]
            mean = np.mean(values, axis=0)  # (epochs,)
            name = _escape(row.name)
            axes.plot(range(1, epochs + 1), mean, color=colour, linestyle=dashes, label=name)

        axes.set(xlabel="epoch", ylabel=METRIC_TITLES[metric])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def _draw_confusions(study: StudyResults, rows: list[ReportRow]) -> Figure:
    """Draw the confusions of each row side by side: shares of every true scene, over all seeds."""
    figure = make_figure(study, 5.6 * len(rows), 5.4)
    for place, row in enumerate(rows, start=1):
        # Seeds, and their epochs, stand one after another, as if all had judged different clips.
        tables = study.read_probabilities(row)  # (R,B,N,S)
        probabilities = tables.reshape(-1, tables.shape[-1])  # (R*B*N,S)
        scenes = np.resize(study.clips.scenes, len(probabilities))  # (R*B*N,), repeated
        draw_confusion_matrix(
            figure.add_subplot(1, len(rows), place),
            count_confusions(probabilities, scenes),
            study.scene_names,
            title=f"{_escape(row.name)}, % of each true scene",
            font_size=7,
        )
    return figure


def _reach_of(figure: Estimate) -> np.ndarray:
    """Return how far an interval reaches to both sides of its figure (2,1); 0 without one."""
    reach: np.ndarray = np.nan_to_num([[figure.value - figure.low], [figure.high - figure.value]])
    return reach


def _escape(name: str) -> str:
    """Escape a person's name for something, so that matplotlib shows it as it is.

    Matplotlib reads $ as mathematics and leaves names that begin with _ out of legends.
    """
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
