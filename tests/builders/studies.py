"""Study files as text, and what reading them gives."""

from pathlib import Path

import pytest

from avsc_core.errors import UserError
from studies.study.reading import read_study
from studies.study.schema import Study

STUDIES = Path(__file__).parents[2] / "studies"  # those that ship
GOOD = """\
question: Does it matter?
base: {alignment.k: 4}
seeds: [0, 1]
arms:
  - name: all
  - name: no SF
    set:
      fusion: {kind: none}
    published: {table: II, row: 1, acc: 0.9, logloss: 0.3}
search:
  space:
    loss_weights.scene: {low: 1, high: 10}
    alignment.mode:
  trials: 3
"""
MODULES = """\
question: Which modules matter?
seeds: [0, 1]
ablation:
  design: factorial
  factors:
    SF: {without: {fusion.kind: none}, with: {fusion.kind: semantic}}
    CEOA: {without: {alignment.enabled: false}, with: {alignment.enabled: true}}
"""
SEARCH = (
    "search: {space: {alignment.k: , loss_weights.scene: }, sampler: random, scheduler: none}\n"
)
LADDER = """\
question: q
seeds: [0, 1]
ladder: [{training.epochs: 2}, demo]
search: {space: {loss_weights.scene: }, trials: 4, finalists: 2, sampler: random, scheduler: none}
"""


def read(folder: Path, text: str, **options: object) -> Study:
    """Read a study file `study.yaml` of this text; `options` are those of `read_study`."""
    path = folder / "study.yaml"
    path.write_text(text)
    return read_study(path, **options)


def faults(folder: Path, text: str, **options: object) -> list[str]:
    """Return the faults that reading this text reports, without the folder's name."""
    with pytest.raises(UserError) as caught:
        read(folder, text, **options)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]
