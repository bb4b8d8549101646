"""The map of classes as files: a page for a browser, a picture, a table of the nearest pairs."""

import csv
import io
import re
from pathlib import Path

import numpy as np
from numpy import ndarray

from avsc_core.evaluation.class_map import ClassMap
from avsc_core.evaluation.class_map_picture import COLOURS, draw_picture
from avsc_core.files import write_text

# of the map on the page, in its own units
WIDTH = 1000
HEIGHT = 640
MARGIN = 40


def choose_folder(model: str) -> Path:
    """Return maps/ with the model's name, without special characters: best:x -> maps/best-x."""
    name = re.sub(r"[^\w.]+", "-", model).strip("-.")
    return Path("maps") / (name or "model")


def write_map(folder: Path, class_map: ClassMap) -> tuple[Path, Path, Path]:
    """Write map.html, map.png and pairs.tsv into `folder` and return their paths."""
    page = folder / "map.html"
    picture = folder / "map.png"
    pairs = folder / "pairs.tsv"
    write_text(page, render_page(class_map))
    draw_picture(picture, class_map)
    write_text(pairs, format_pairs(class_map))
    return page, picture, pairs


def format_pairs(class_map: ClassMap) -> str:
    """Format the pairs as a TAB-separated table, in which a name with a TAB or a quote is quoted.

    A last column says so when the model was trained on embedded scenes.
    """
    header = ["event", "object", "cosine"]
    label = []
    if class_map.label:
        header.append("data")
        label.append(class_map.label)

    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(header)
    for pair in class_map.pairs:
        table.writerow([pair.event, pair.object, pair.cosine, *label])
    return text.getvalue()


def render_page(class_map: ClassMap) -> str:
    """Render the map as one page that loads nothing else.

    Markers can be found, named, hidden, zoomed and moved.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("avsc_core.evaluation", "."),
        autoescape=True,  # names of classes may contain HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    spots = _scale_to_page(class_map.places).tolist()
    count = len(class_map.event_names)
    return environment.get_template("class_map.html.j2").render(
        title=class_map.title,
        events=list(zip(class_map.event_names, spots[:count], strict=True)),
        objects=list(zip(class_map.object_names, spots[count:], strict=True)),
        pairs=class_map.pairs,
        colours=COLOURS,
        size=(WIDTH, HEIGHT),
    )


def _scale_to_page(places: ndarray) -> ndarray:
    """Scale (P,2) places to the page, both axes alike; the page counts y from the top."""
    low = places.min(0)  # (2,)
    high = places.max(0)  # (2,)
    room = (WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN)
    centre = (WIDTH / 2, HEIGHT / 2)
    scale = (room / np.maximum(high - low, 1e-9)).min()
    centred = (places - (low + high) / 2) * scale * (1, -1)
    spots: ndarray = (centred + centre).round(2)
    return spots
