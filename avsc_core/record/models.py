"""Trained models of a record, found by what people call them."""

from contextlib import suppress
from pathlib import Path

from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.record.address import hide_secrets
from avsc_core.record.reading.guard import list_failures
from avsc_core.record.reading.record import Record
from avsc_core.record.trials import TrialRecord
from avsc_core.record.winner import find_winner
from avsc_core.terminal import err


def fetch_model(record: Record, reference: str) -> Path:
    """Return the local folder of a model: a run id, `best:STUDY` or `models:/NAME@ALIAS`.

    Raises UserError when there is no such model.
    """
    run_id = reference
    try:
        if reference.startswith("best:"):
            run_id = find_retrained(record, reference).run_id
        elif reference.startswith("models:/"):
            name, _, alias = reference.removeprefix("models:/").partition("@")
            run_id = str(record.client.get_model_version_by_alias(name, alias).run_id)
        return Path(record.fetch_artifact(run_id, "model"))
    except (EnvironmentFault, *list_failures()) as error:  # type: ignore[misc]
        allowed = "a run id, best:STUDY, models:/NAME@ALIAS or a folder"
        what = hide_secrets(f"no model there ({error})")
        raise UserError(Fault(reference, what, allowed)) from None


def find_retrained(record: Record, reference: str) -> TrialRecord:
    """Return the latest retraining of the study that `best:STUDY` names.

    When the study has another winner by now, this is said. Raises UserError when there is none.
    """
    study = record.get_study(reference.removeprefix("best:"), reference).tags["avsc.study"]
    trainings = record.list_trials(study, "training")
    completed = [training for training in trainings if training.outcome == "complete"]
    command = f"`avsc-core train --best --study {study}`"
    if not completed:
        todo = f"{command} retrains its winner"
        raise UserError(Fault(reference, f"study {study} has no retrained model", todo=todo))

    latest = completed[-1]
    trained = latest.tags.get("avsc.winner", "")  # the run of the trial that won then
    winners = {trained}
    with suppress(UserError):  # its trials may have been deleted; the model is there
        winners = {trial.run_id for trial in find_winner(record, study).trials}
    if trained and trained not in winners:
        what = f"study {study} has another winner by now than the one that was retrained"
        err.print(f"note: {what}; {command} retrains it", soft_wrap=True)
    return latest
