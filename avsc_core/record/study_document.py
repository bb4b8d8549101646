"""The one document that the record keeps of a study beside its trials: `study.json`.

    format        2
    definition    what the study asks and of which data; a changed one is refused
    metadata      question, arms, searches, the text of the file: what a report needs
    invocations   of every run of the command that trained something: command, versions
    cost          what the latest of them estimated before its first trial
    weights       what became of every tensor of pretrained files
    skipped       the clips that skip.tsv left out, and why
    looks         of a study that adds seeds until told: what every look found (studies/looks.py)
    earlier_seed_counts  how many seeds the study had each time before seeds were added

The definition is in tags of the study's run as well, cut into parts: `avsc.definition.parts` has
their number. It decides whether a study may continue, which must not depend on an artifact.

Version 0.1.0 wrote four documents: study.json (the definition alone), about.json, weights.json and
skipped.json. `read_document` reads both.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from avsc_core.record.trials import OWN_SEARCH

DOCUMENT = "study.json"
FORMAT = 2
DEFINITION = "avsc.definition"
LONGEST_TAG = 8000  # characters that MLflow keeps of a tag


def read_document(read_json: Callable[[str], Any]) -> dict[str, Any]:
    """Return the document of a study, of any version; empty when there is none.

    `read_json` returns an artifact of the study's run by its name, or an empty dict.
    """
    content: dict[str, Any] = read_json(DOCUMENT)
    if not content or content.get("format") == FORMAT:
        return content

    # Version 0.1.0 wrote the definition alone into study.json.
    about = read_json("about.json")
    cost = about.pop("cost", None)
    invocations = about.pop("sittings", [])
    for search in about.get("searches", []):
        if search["name"] != OWN_SEARCH:
            search["name"] = search["name"].removeprefix("search: ")
    return {
        "format": FORMAT,
        "definition": content,
        "metadata": about,
        "invocations": invocations,
        "cost": cost or None,
        "weights": read_json("weights.json") or [],
        "skipped": read_json("skipped.json"),
    }


def split_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """Return the definition of a study as tags."""
    text = json.dumps(definition)
    parts = [text[start : start + LONGEST_TAG] for start in range(0, len(text), LONGEST_TAG)]
    tags = {f"{DEFINITION}.{number}": part for number, part in enumerate(parts, 1)}
    return {**tags, f"{DEFINITION}.parts": str(len(parts))}


def join_definition(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition of a study from its tags; empty where an earlier version wrote none."""
    count = int(tags.get(f"{DEFINITION}.parts", 0))
    text = "".join(tags[f"{DEFINITION}.{number}"] for number in range(1, count + 1))
    definition: dict[str, Any] = json.loads(text) if text else {}
    return definition


def name_place_in_paper(published: Mapping[str, Any]) -> str:
    """Name the table and row of a published figure: "Table II, row 1"."""
    word = "Table " if is_of_the_paper(published) else ""
    return f"{word}{published['table']}, row {published['row']}"


def is_of_the_paper(published: Mapping[str, Any]) -> bool:
    """Tell whether figures are of a table of the paper, I to V, and not of another publication."""
    return set(published["table"]) <= set("IVX")
