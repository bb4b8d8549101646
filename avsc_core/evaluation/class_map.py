"""The map of classes, Figure 2 of the paper: what both classifiers learned, in two dimensions.

The last layer of each branch holds one row a class, (E,D) and (O,D). CEOA (model/alignment.py)
pulls together the rows of events and objects that occur together, so an aligned model has `tram
bell` near `rails`. UMAP places all rows in a plane such that neighbours stay neighbours; its axes
and large distances have no meaning. How near two rows really are is their cosine in all D
dimensions, by which the list of nearest pairs is made.

This module computes the map; class_map_files.py and class_map_picture.py write it.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from avsc_core.data.dataset import EMBEDDED, LABEL
from avsc_core.errors import make_error
from avsc_core.evaluation.evaluate import Trained

NEIGHBOURS = 15

# Digits of a cosine; further ones depend on how a matrix product is split into blocks, and would
# order equal pairs at random.
DIGITS = 12


class ClassPair(NamedTuple):
    """An event and an object with the cosine of their rows in the two classifiers."""

    event: str
    object: str
    cosine: float
    event_row: int
    object_row: int


class ClassMap(NamedTuple):
    """The place of every class, and the nearest pairs."""

    title: str
    event_names: Sequence[str]  # E
    object_names: Sequence[str]  # O
    places: ndarray  # (E+O,2), events first
    pairs: list[ClassPair]
    label: str = ""  # that the model was trained on embedded scenes


def build_map(trained: Trained, name: str, count: int, seed: int) -> ClassMap:
    """Build the map of a trained model, with its `count` nearest pairs.

    Raises UserError when the model has one classifier only, or when umap-learn is not installed.
    """
    events, objects = _read_classifiers(trained, name)  # (E,D), (O,D)
    source = trained.trained_on or "data its folder does not name"
    weights = trained.config.loss_weights
    aligned = trained.config.alignment.enabled and (weights.e2o or weights.o2e)
    return ClassMap(
        title=f"{name}, trained on {source} {'with' if aligned else 'without'} CEOA",
        event_names=trained.event_names,
        object_names=trained.object_names,
        places=embed_classes(events, objects, seed),
        pairs=find_nearest_pairs(events, objects, trained.event_names, trained.object_names, count),
        label=LABEL if source.startswith(EMBEDDED) else "",
    )


def embed_classes(event_weight: ndarray, object_weight: ndarray, seed: int) -> ndarray:
    """Place (E,D) events and (O,D) objects together by UMAP of their cosines: (E+O,2).

    The same seed gives the same places.

    Raises UserError when umap-learn is not installed.
    """
    rows = np.concatenate([event_weight, object_weight])  # (E+O,D)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from umap import UMAP  # it compiles itself when imported, for ten seconds
        except ImportError as error:
            raise make_error(
                "umap-learn", f"cannot be used ({error})", todo="pip install 'avsc[map]'"
            ) from None
        neighbours = min(NEIGHBOURS, len(rows) - 1)
        umap = UMAP(metric="cosine", n_neighbors=neighbours, random_state=seed, n_jobs=1)
        return np.asarray(umap.fit_transform(rows), dtype=float)  # (E+O,2)


def find_nearest_pairs(
    event_weight: ndarray,  # (E,D)
    object_weight: ndarray,  # (O,D)
    event_names: Sequence[str],  # E
    object_names: Sequence[str],  # O
    count: int,
) -> list[ClassPair]:
    """Find the `count` pairs of largest cosine, the largest first.

    Equal pairs are in the order of their events, then of their objects.
    """
    cosine = (_normalise_rows(event_weight) @ _normalise_rows(object_weight).T).round(DIGITS)
    order = np.argsort(-cosine, axis=None, kind="stable")[:count]  # into the flattened (E,O)
    event_rows, object_rows = np.unravel_index(order, cosine.shape)

    pairs = []
    for event, thing in zip(event_rows.tolist(), object_rows.tolist(), strict=True):
        value = float(cosine[event, thing])
        pairs.append(ClassPair(event_names[event], object_names[thing], value, event, thing))
    return pairs


def _read_classifiers(trained: Trained, name: str) -> tuple[ndarray, ndarray]:
    """Return the weights of both classifiers in float64, (E,D) and (O,D).

    Raises UserError when one of them does not exist.
    """
    events = trained.model.event_classifier_weight
    objects = trained.model.object_classifier_weight
    if events is None or objects is None:
        lacking = "object" if objects is None else "event"
        raise make_error(
            name,
            f"a model of modality {trained.config.modality} has no {lacking} classifier",
            "a model of modality audio-visual",
        )
    return events.detach().double().cpu().numpy(), objects.detach().double().cpu().numpy()


def _normalise_rows(rows: ndarray) -> ndarray:
    """Divide each row by its length; a row of zeros stays one, and so is near no other."""
    length = np.linalg.norm(rows, axis=1, keepdims=True).clip(np.finfo(float).tiny)
    scaled: ndarray = rows / length
    return scaled
