"""The longest names and values that a record must hold, in letters of every width."""

from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import RETUNED
from avsc_core.resolve import Override, resolve
from studies.study.arms import LONGEST_NAME

FOLDER = "/" + "long path/" * 99
LETTERS = ("a", "é", "日", "📈")


def check_longest_names(recorder: Recorder) -> None:
    """Write them into a record and read them back.

    Databases count letters in different ways, and MLflow cuts or refuses what they cannot hold.
    """
    study = "s" * 64
    for letter in LETTERS:
        paths = {"audio.weights": f"{FOLDER}a{letter}", "visual.weights": f"{FOLDER}v{letter}"}
        config = resolve("demo", [Override(key, path, "--set") for key, path in paths.items()])
        tags = {
            "avsc.kind": "trial",
            "avsc.study": study,
            "avsc.role": RETUNED,
            "avsc.arm": letter * LONGEST_NAME,
            "avsc.data": FOLDER,
            "avsc.error": letter * 4000,
        }
        run_id = recorder.begin_run(study, config, tags)
        (trial,) = [trial for trial in recorder.list_trials(study) if trial.run_id == run_id]
        assert trial.config == config
        assert {name: trial.tags[name] for name in tags} == tags
