"""The report's pictures of a search: its Pareto front, what mattered, and slices of its space.

Every `make_..._picture` returns None when the record has nothing to draw.
"""

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from search_spaces.domains import Choice, Domain
from studies.report.blocks import METRIC_TITLES, Picture
from studies.report.figures import COLOURS, make_figure
from studies.report.sections.search_results import (
    Judgement,
    collect_best_values,
    find_pareto_front,
    judge_importance,
    name_search_rung,
)
from studies.report.study_results import StudyResults

MOST_COLUMNS = 3  # of the slices
MOST_MARKS = (
    1_000  # of a plot as shapes of their own; more are pixels, or a page grows by megabytes
)


def make_pareto_picture(study: StudyResults) -> Picture | None:
    """Picture the Pareto front of a search with two metrics."""
    if not study.searched or len(study.metrics) < 2:
        return None
    return Picture(
        key="pareto",
        title=f"Pareto front, drawn{name_search_rung(study)}",
        alt_text="both metrics of every completed trial",
        draw=partial(_draw_pareto, study),
    )


def make_importance_picture(study: StudyResults) -> Picture | None:
    """Picture how much each dimension of a search mattered."""
    if not _list_telling(study):
        return None
    return Picture(
        key="importance",
        title=f"What mattered, drawn{name_search_rung(study)}",
        alt_text="share of importance by dimension",
        draw=partial(_draw_importance, study),
    )


def make_slices_picture(study: StudyResults) -> Picture | None:
    """Picture the deciding metric along each dimension of a search."""
    if not _list_telling(study):
        return None
    return Picture(
        key="slices",
        title=f"Slices{name_search_rung(study)}",
        alt_text=f"{METRIC_TITLES[study.metric]} by the value of each dimension",
        draw=partial(_draw_slices, study),
    )


def _draw_pareto(study: StudyResults) -> Figure:
    """Draw both metrics of all trials, and a line through those that no other beats in both."""
    values = collect_best_values(study, study.searched)  # (trials,2)
    front = collect_best_values(study, find_pareto_front(study))
    front = front[np.argsort(front[:, 0])]

    figure = make_figure(study, 5.5, 4)
    axes = figure.subplots()
    (points,) = axes.plot(*values.T, "o", color=COLOURS[0], alpha=0.5, label="completed trials")
    points.set_rasterized(len(values) > MOST_MARKS)
    axes.plot(*front.T, "s-", color=COLOURS[1], label="beaten by none in both")
    axes.set(xlabel=METRIC_TITLES[study.metrics[0]], ylabel=METRIC_TITLES[study.metrics[1]])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _draw_importance(study: StudyResults) -> Figure:
    """Draw bars for each dimension, and lines where chance alone would reach.

    There is a bar for every metric, and one for the first rung where trials were stopped.
    """
    # The first one's dimensions, the most important first, are the order of all bars.
    judgements = _list_telling(study)
    keys = list(judgements[0].importance.shares)
    places = np.arange(len(keys))
    bar_height = 0.8 / len(judgements)

    figure = make_figure(study, 7, 1 + 0.35 * len(keys))
    axes = figure.subplots()
    for number, judgement in enumerate(judgements):
        importance = judgement.importance
        title = _name_judgement(judgement)
        colour = COLOURS[number]
        shares = [importance.shares.get(key, 0.0) for key in keys]
        axes.barh(places + number * bar_height, shares, bar_height, color=colour, label=title)
        by_chance = f"{title}, by chance at most"
        axes.axvline(importance.chance, color=colour, linestyle=":", label=by_chance)

    # The name of a dimension stands in the middle of its bars.
    axes.set_yticks(places + bar_height * (len(judgements) - 1) / 2, keys)
    axes.set_xlabel("share of importance")
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure


def _draw_slices(study: StudyResults) -> Figure:
    """Draw the deciding metric over each dimension, a point for every trial where it exists.

    Where trials were stopped, hollow points are those of all trials at the first rung.
    """
    judgements = [each for each in judge_importance(study) if each.metric == study.metric]

    # A grid with a small picture for each dimension; all share the axis of the metric.
    dimensions = study.space.dimensions
    columns = min(MOST_COLUMNS, len(dimensions))
    lines = -(-len(dimensions) // columns)
    figure = make_figure(study, 3.1 * columns, 2.5 * lines)
    grid = np.atleast_1d(np.asarray(figure.subplots(lines, columns, sharey=True))).ravel()

    for axes, (key, domain) in zip(grid, dimensions.items(), strict=False):
        _set_value_axis(axes, domain)
        for judgement in judgements:
            values, heights = _list_points(judgement, key, domain)
            at_end = judgement.epoch is None
            axes.plot(
                values,
                heights,
                "o",
                color=COLOURS[0] if at_end else COLOURS[1],
                fillstyle="full" if at_end else "none",
                alpha=0.6,
                label=_name_judgement(judgement),
                rasterized=len(values) > MOST_MARKS,
            )
        axes.set_xlabel(key, fontsize=8)
        axes.grid(alpha=0.3)

    # The last line of the grid may be longer than it needs to be.
    for axes in grid[len(dimensions) :]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel(METRIC_TITLES[study.metric], fontsize=8)
    if len(judgements) > 1:
        grid[0].legend(fontsize=6)
    return figure


def _list_telling(study: StudyResults) -> list[Judgement]:
    """List the judgements of importance that say something; none without a search."""
    if not study.searched:
        return []
    return [each for each in judge_importance(study) if each.importance.shares]


def _name_judgement(judgement: Judgement) -> str:
    """Name a judgement in a legend: the metric, and the epoch of a first rung."""
    title = METRIC_TITLES[judgement.metric]
    return title if judgement.epoch is None else f"{title}, all trials at epoch {judgement.epoch}"


def _list_points(judgement: Judgement, key: str, domain: Domain) -> tuple[list[Any], list[float]]:
    """List the values of a dimension of the trials that have it, and what was judged of them."""
    values = []
    heights = []
    for point, height in zip(judgement.points, judgement.values, strict=True):
        if key in point:
            values.append(point[key])
            heights.append(height)
    # The values of a choice stand at 0, 1, 2, ... in the order of the space.
    if isinstance(domain, Choice):
        values = list(map(domain.values.index, values))
    return values, heights


def _set_value_axis(axes: Axes, domain: Domain) -> None:
    """Set the scale of a dimension's values, with some room at both ends."""
    if isinstance(domain, Choice):
        axes.set_xticks(range(len(domain.values)), map(str, domain.values), fontsize=7)
        axes.set_xlim(-0.5, len(domain.values) - 0.5)
    elif domain.log:
        room = (domain.high / domain.low) ** 0.03
        axes.set_xscale("log")
        # Values as people set them, 0.01 and 1e-05; powers of ten take long to draw. A range that
        # has few of them shows its ends and a round value between.
        if domain.high / domain.low < 100:
            middle = float(f"{(domain.low * domain.high) ** 0.5:.1g}")
            axes.set_xticks(sorted({domain.low, middle, domain.high}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlim(domain.low / room, domain.high * room)
    else:
        room = 0.03 * (domain.high - domain.low)
        axes.set_xscale("linear")
        axes.set_xlim(domain.low - room, domain.high + room)
