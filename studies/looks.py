"""A study that adds seeds until its differences are told: trainings and looks in turn.

The runner trains the seeds that are planned, the report estimates the differences, and neither
knows the other; this module stands on both. A look decides by the record alone, so a command that
was killed and is given again comes to the same decisions. The rule is in
`avsc_core/evaluation/sequential.py`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from avsc_core.evaluation.sequential import find_thresholds, list_information, spend_level
from avsc_core.processes import Progress
from avsc_core.record.lease import hold_lease
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import OWN_SEARCH
from avsc_core.terminal import err
from studies.cluster.session import Session
from studies.engine.tune import Ending
from studies.report.estimates import estimate_contrasts, subtract
from studies.report.sections.comparisons import list_compared_arms, pair_arms
from studies.report.study_results import StudyResults
from studies.runner.run import run_study
from studies.study.schema import BELIEVED_BELOW, Study

Look = dict[str, Any]  # as the study's document keeps it; see `take_look`


def run_with_looks(
    study: Study,
    root: Path | None,  # of the data set; None: the embedded scenes
    uri: str | None,
    session: Session,
    progress: Progress,
    max_hours: float | None = None,
    again: bool = False,
) -> Ending:
    """Run what is left of a study; one that adds seeds until told is looked at after each seed.

    Raises UserError as `run_study`.
    """
    ending = run_study(study, root, uri, session, progress, max_hours, again)
    failed = ending.failed
    while study.looks and not ending.signal:
        # Another command may have begun to run the study in the meantime.
        with hold_lease(ending.recorder, study.name, str(study.path)):
            results = StudyResults(ending.recorder, study.name)
            if any(trial.outcome == "failed" for trial in results.trials):
                err.print("no seed is added while trials fail; the same command tries them again")
                break
            look = take_look(results)
            record_look(ending.recorder, study.name, look)
        is_last = not look["open"] or look["seeds"] == study.looks[-1]
        err.print(describe_look(look, is_last), soft_wrap=True)
        if is_last:
            break

        # `--max-hours` has been heeded: the limit's cost was below it, with a search so long.
        study = _take_search_length(study, results).with_seeds(look["seeds"] + 1)
        ending = run_study(study, root, uri, session, progress, again=again)
        failed += ending.failed
    return ending._replace(failed=failed)


def take_look(study: StudyResults) -> Look:
    """Look at the differences of a study's arms, with all seeds that it has.

    Returns the number of seeds, the information, the level spent so far, the p value that this look
    needs of the clearest difference, and the pairs of arms that are told and open.
    """
    pairs = pair_arms(list_compared_arms(study))
    contrasts = [subtract(*pair) for pair in pairs]
    figures = estimate_contrasts(study, contrasts, study.short_metric)
    told: list[list[str]] = []
    still_open: list[list[str]] = []
    for (one, other), figure in zip(pairs, figures, strict=True):
        names = [one.name, other.name]
        (told if figure.p < BELIEVED_BELOW else still_open).append(names)

    place = study.looks.index(len(study.seeds))
    information = list_information(study.looks)
    thresholds = find_thresholds(study.looks, BELIEVED_BELOW / max(1, len(pairs)))
    return {
        "seeds": len(study.seeds),
        "information": float(information[place]),
        "spent": float(spend_level(information, BELIEVED_BELOW)[place]),
        "threshold": float(thresholds[place]),
        "told": told,
        "open": still_open,
    }


def record_look(recorder: Recorder, name: str, look: Look) -> None:
    """Put a look into the study's document, in place of one at the same number of seeds."""
    run_id = recorder.get_study(name).run_id
    document = recorder.read_study_document(run_id)
    earlier = [other for other in document.get("looks", []) if other["seeds"] < look["seeds"]]
    recorder.write_study_document(run_id, {**document, "looks": [*earlier, look]})


def describe_look(look: Look, is_last: bool) -> str:
    """Describe a look in a line, and what follows."""
    told = len(look["told"])
    pairs = told + len(look["open"])
    line = f"look at {look['seeds']} seeds: {told} of {pairs} differences told"
    if not is_last:
        return f"{line}; seed {look['seeds']} is added"
    if not pairs:
        return f"{line}; fewer than two arms have trials to compare"
    return f"{line}; {'the limit is reached' if look['open'] else 'no more seeds are needed'}"


def _take_search_length(study: Study, results: StudyResults) -> Study:
    """Return the study with as many trials of its own search as it was run with."""
    for search in results.asked_searches:
        if search.name == OWN_SEARCH and study.search:
            return replace(study, search=replace(study.search, trials=search.trials))
    return study
