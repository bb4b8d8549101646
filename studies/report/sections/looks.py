"""The looks of a study that adds seeds until its differences are told.

`studies/looks.py` takes them; `avsc_core/evaluation/sequential.py` has the rule.
"""

from studies.report.blocks import METRIC_TITLES, Table, format_number
from studies.report.study_results import StudyResults


def make_looks_table(study: StudyResults) -> Table | None:
    """Make the table of the looks; None for a study whose file lists its seeds."""
    if not study.looks_taken:
        return None
    rows = []
    for look in study.looks_taken:
        still_open = "; ".join(" against ".join(pair) for pair in look["open"])
        rows.append(
            [
                str(look["seeds"]),
                format_number(look["information"], digits=3),
                f"{look['spent']:.2g}",
                f"{look['threshold']:.2g}",
                f"{len(look['told'])} of {len(look['told']) + len(look['open'])}",
                still_open,
            ]
        )

    header = ["seeds", "information", "level spent", "p needed", "told", "open"]
    note = (
        f"Seeds were added until every difference of {METRIC_TITLES[study.metric]} was told, at"
        f" most {study.looks[-1]}, by a group-sequential rule (spending like O'Brien and"
        " Fleming's). p needed: at this look alone, by the clearest difference. What was told"
        " once stays told."
    )
    return Table("looks", "Looks", header, rows, note)


def describe_added_seeds(study: StudyResults) -> str:
    """Say what p and intervals of differences know of earlier looks, as the end of a note."""
    if study.looks:
        level = format_number(100 * study.difference_level, digits=2)
        return (
            f" Seeds were added until told: p counts all looks, and the intervals ({level} % each)"
            " hold at all looks together with 95 %."
        )
    if study.earlier_seed_counts:
        counts = ", then ".join(map(str, study.earlier_seed_counts))
        return (
            f" Seeds were added to a study that had {counts}; if they were added because of what it"
            " showed, p is too small (`seeds: {until: told, at most: 10}` counts its looks)."
        )
    return ""
