"""The map of classes, Figure 2 of the paper: what the event and the object classifier learned, in two dimensions.

The last layer of each branch holds one row a class, (E,D) and (O,D). CEOA (model/alignment.py) pulls together the rows
of events and objects that occur together, so an aligned model has `tram bell` near `rails`. UMAP lays all rows out in a
plane such that neighbours stay neighbours; distances over the whole plane, and its axes, mean nothing. How near two
rows really are is told by their cosine in all D dimensions, and that is what the list of pairs has.
"""

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from avsc_core.data.dataset import EMBEDDED, LABEL
from avsc_core.errors import Fault, UserError
from avsc_core.evaluation.evaluate import Trained
from avsc_core.files import atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEIGHBOURS = 15
DIGITS = 12  # of a cosine; further ones depend on how a matrix product is blocked and would break ties at random
COLOURS = {
    "event": "#0072b2",
    "object": "#d55e00",
}  # told apart by every kind of colour vision (Okabe and Ito)
MARKERS = {"event": "o", "object": "D"}
WIDTH, HEIGHT, MARGIN = 1000, 640, 40  # of the map on the page


class ClassPair(NamedTuple):
    """An event and an object: their names, their rows in the two classifiers, and the cosine of these rows."""

    event: str
    object: str
    cosine: float
    event_row: int
    object_row: int


class ClassMap(NamedTuple):
    """Where every class lies, and the nearest pairs."""

    title: str
    event_names: Sequence[str]  # E
    object_names: Sequence[str]  # O
    places: np.ndarray  # (E+O,2), events first
    pairs: list[ClassPair]
    label: str = ""  # that the model was trained on embedded scenes


def build_map(trained: Trained, name: str, count: int, seed: int) -> ClassMap:
    """The map of a trained model. Raises UserError when it has one classifier only, or umap-learn is not installed."""
    config, model = trained.config, trained.model
    events, objects = model.event_classifier_weight, model.object_classifier_weight  # (E,D), (O,D)
    if events is None or objects is None:
        lacking = "object" if objects is None else "event"
        what = f"a model of modality {config.modality} has no {lacking} classifier"
        raise UserError(Fault(name, what, "a model of modality audio-visual"))
    event_weight, object_weight = (
        rows.detach().double().cpu().numpy() for rows in (events, objects)
    )
    places = embed_classes(event_weight, object_weight, seed)
    pairs = find_nearest_pairs(
        event_weight, object_weight, trained.event_names, trained.object_names, count
    )
    aligned = config.alignment.enabled and (config.loss_weights.e2o or config.loss_weights.o2e)
    source = trained.trained_on or "data its folder does not name"
    title = f"{name}, trained on {source} {'with' if aligned else 'without'} CEOA"
    label = LABEL if source.startswith(EMBEDDED) else ""
    return ClassMap(title, trained.event_names, trained.object_names, places, pairs, label)


def embed_classes(event_weight: np.ndarray, object_weight: np.ndarray, seed: int) -> np.ndarray:
    """(E,D) and (O,D) -> (E+O,2): UMAP of both together by cosine. The same seed gives the same places.

    Raises UserError when umap-learn is not installed.
    """
    rows = np.concatenate([event_weight, object_weight])  # (E+O,D)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from umap import UMAP  # it compiles itself when imported, for ten seconds
        except ImportError as error:
            raise UserError(
                Fault("umap-learn", f"cannot be used ({error})", todo="pip install 'avsc[map]'")
            ) from None
        neighbours = min(NEIGHBOURS, len(rows) - 1)
        umap = UMAP(metric="cosine", n_neighbors=neighbours, random_state=seed, n_jobs=1)
        return np.asarray(umap.fit_transform(rows), dtype=float)  # (E+O,2)


def find_nearest_pairs(
    event_weight: np.ndarray,  # (E,D)
    object_weight: np.ndarray,  # (O,D)
    event_names: Sequence[str],  # E
    object_names: Sequence[str],  # O
    count: int,
) -> list[ClassPair]:
    """The `count` pairs of largest cosine, the largest first; of equals the lower event, then the lower object."""
    lengths = (
        np.linalg.norm(rows, axis=1, keepdims=True) for rows in (event_weight, object_weight)
    )  # (E,1), (O,1)
    event_length, object_length = (
        length.clip(np.finfo(float).tiny) for length in lengths
    )  # zeros are near nothing
    cosine = ((event_weight / event_length) @ (object_weight / object_length).T).round(
        DIGITS
    )  # (E,O)
    order = np.argsort(-cosine, axis=None, kind="stable")[:count]
    rows = zip(*(places.tolist() for places in np.unravel_index(order, cosine.shape)), strict=True)
    return [ClassPair(event_names[e], object_names[o], float(cosine[e, o]), e, o) for e, o in rows]


def choose_folder(model: str) -> Path:
    """maps/ and the model's name without what a folder's name should not have: best:lambda -> maps/best-lambda."""
    return Path("maps") / (re.sub(r"[^\w.]+", "-", model).strip("-.") or "model")


def write_map(folder: Path, made: ClassMap) -> tuple[Path, Path, Path]:
    """Write map.html, map.png and pairs.tsv into `folder`; their paths."""
    page, picture, pairs = (folder / name for name in ("map.html", "map.png", "pairs.tsv"))
    write_text(page, render_page(made))
    draw_picture(picture, made)
    write_text(pairs, format_pairs(made))
    return page, picture, pairs


def format_pairs(made: ClassMap) -> str:
    """The pairs as a TAB-separated table; a name with a TAB or a quote in it is quoted. A last column says so when the
    model never saw a real street."""
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    title, cell = (["data"], [made.label]) if made.label else ([], [])
    table.writerow(["event", "object", "cosine", *title])
    table.writerows([pair.event, pair.object, pair.cosine, *cell] for pair in made.pairs)
    return text.getvalue()


def render_page(made: ClassMap) -> str:
    """The map as one page that needs nothing else: markers can be found, named, hidden, zoomed and moved."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    low, high = made.places.min(0), made.places.max(0)
    scale = (
        (WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN) / np.maximum(high - low, 1e-9)
    ).min()  # the same for both axes
    spots = (
        ((made.places - (low + high) / 2) * scale * (1, -1) + (WIDTH / 2, HEIGHT / 2))
        .round(2)
        .tolist()
    )
    count = len(made.event_names)
    loader = PackageLoader("avsc_core.evaluation", ".")
    pages = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("class_map.html.j2").render(
        title=made.title,
        events=list(zip(made.event_names, spots[:count], strict=True)),
        objects=list(zip(made.object_names, spots[count:], strict=True)),
        pairs=made.pairs,
        colours=COLOURS,
        size=(WIDTH, HEIGHT),
    )


def draw_picture(path: Path, made: ClassMap) -> None:
    """The map as a picture (PNG); the nearest pairs are joined by lines and carry their names."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal", "datalim")
    axes.set(xticks=[], yticks=[])
    axes.set_title(made.title, parse_math=False, wrap=True)
    count = len(made.event_names)
    for kind, spots in (("event", made.places[:count]), ("object", made.places[count:])):
        x, y = spots.T
        axes.scatter(
            x,
            y,
            s=22,
            c=COLOURS[kind],
            marker=MARKERS[kind],
            alpha=0.8,
            lw=0,
            label=f"{kind}s",
            zorder=3,
        )
    labels: dict[int, tuple[str, str]] = {}  # row of `places` -> its name and colour
    for pair in made.pairs:
        ends = (pair.event_row, count + pair.object_row)
        axes.plot(*made.places[list(ends)].T, color="0.4", lw=0.8, zorder=2)
        labels |= {
            ends[0]: (pair.event, COLOURS["event"]),
            ends[1]: (pair.object, COLOURS["object"]),
        }
    axes.legend(loc="lower left")
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        warnings.filterwarnings(
            "ignore", "Glyph"
        )  # a script that the font lacks is drawn as boxes; the page has it
        figure.draw_without_rendering()  # settles the layout, on which the labels' places depend
        figure.set_layout_engine("none")
        axes.autoscale(False)
        _label(axes, made.places, labels)
        figure.savefig(temporary, dpi=150)


def _label(axes: "Axes", places: np.ndarray, labels: dict[int, tuple[str, str]]) -> None:
    """Write names beside their places, (P,2), each where it hides the fewest other names and markers."""
    spots = axes.transData.transform(places)  # (P,2) in pixels
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    shifts = np.array(
        [
            (r * np.cos(a), 0.6 * r * np.sin(a))
            for r in (14, 30, 50, 75, 105, 140, 180)
            for a in angles
        ]
    )
    taken = np.empty((0, 4))  # boxes of the names already written: left, bottom, right, top
    for row, (name, colour) in labels.items():
        text = axes.text(
            0,
            0,
            name,
            color=colour,
            fontsize=8,
            ha="center",
            va="center",
            parse_math=False,
            zorder=4,
        )
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})
        half = np.array(text.get_window_extent().size) / 2 + 1
        centres = spots[row] + shifts + np.sign(shifts.round(6)) * half * (1, 0.5)  # (S,2)
        boxes = np.hstack([centres - half, centres + half])  # (S,4)
        outside = (boxes[:, :2] < axes.bbox.min).any(1) | (boxes[:, 2:] > axes.bbox.max).any(
            1
        )  # (S,)
        hidden = 100 * _overlaps(boxes, taken) + 10 * _overlaps(
            boxes, np.hstack([spots - 4, spots + 4])
        )
        best = int(np.argmin(1000 * outside + hidden + np.hypot(*shifts.T) / 10))
        ends = axes.transData.inverted().transform([spots[row], centres[best]])  # (2,2)
        text.set_position(ends[1])
        axes.plot(*ends.T, color=colour, lw=0.5, alpha=0.5, zorder=1)
        taken = np.vstack([taken, boxes[best]])


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of (B,4) `others` each of (S,4) `boxes` meets: (S,)."""
    meets = (boxes[:, None, :2] < others[:, 2:]) & (boxes[:, None, 2:] > others[:, :2])  # (S,B,2)
    return np.asarray(meets.all(2).sum(1))
