"""The map of classes: pairs against a plain loop, UMAP on planted clusters, hostile names."""

import csv
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from avsc_core.config import Config
from avsc_core.data.dataset import LABEL
from avsc_core.data.logmel import AUDIOSET
from avsc_core.errors import UserError
from avsc_core.evaluation.class_map import (
    ClassMap,
    build_map,
    embed_classes,
    find_nearest_pairs,
)
from avsc_core.evaluation.class_map_files import (
    choose_folder,
    format_pairs,
    render_page,
    write_map,
)
from avsc_core.evaluation.evaluate import Trained, load_trained, save_trained
from avsc_core.labels import SCENES
from avsc_core.model import build_model
from avsc_core.resolve import parse_set, resolve
from tests.builders.commands import run, run_process
from tests.builders.configs import TINY

HOSTILE = [
    "</script><script>alert(1)</script>",
    'a "quoted" <b>name</b>',
    "it's & $x$ $y",
    "[red]tab\there[/red]",
]


def trained_on(config: Config, title: str = "embedded scenes (synthetic)") -> Trained:
    """A model with random weights under names of its own; the first four of each kind mean harm."""
    torch.manual_seed(0)
    names = [
        [*HOSTILE, *(f"{kind} {number}" for number in range(60))] for kind in ("event", "object")
    ]
    return Trained(build_model(config).eval(), config, AUDIOSET, *names, list(SCENES), title)


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(40,16) events and objects around two directions: twenty of each around each of them.

    Event n and object n differ by little only."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(5 * np.eye(16)[:2], 20, axis=0)
    events = centres + rng.standard_normal((40, 16))
    return events, 3 * events + 0.1 * rng.standard_normal(
        (40, 16)
    )  # a cosine does not see the length


class Reader(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, and the text of titles and cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open][-1] += data


@given(
    st.integers(0, 2**31),
    st.integers(2, 6),
    st.integers(2, 6),
    st.integers(1, 3),
    st.integers(1, 40),
)
def test_pairs_are_those_of_a_plain_loop(
    seed: int, events: int, objects: int, width: int, count: int
):
    rng = np.random.default_rng(seed)
    e, o = (
        rng.integers(-2, 3, (rows, width)).astype(float) for rows in (events, objects)
    )  # many ties, rows of zeros
    wanted = []
    for i in range(events):
        for j in range(objects):
            lengths = float(np.sqrt(sum(x * x for x in e[i])) * np.sqrt(sum(x * x for x in o[j])))
            dot = sum(float(x) * float(y) for x, y in zip(e[i], o[j], strict=True))
            wanted.append((-round(dot / lengths, 12) if lengths else 0.0, i, j))
    found = find_nearest_pairs(
        e, o, [f"e{i}" for i in range(events)], [f"o{j}" for j in range(objects)], count
    )
    assert [(pair.event_row, pair.object_row) for pair in found] == [
        (i, j) for _, i, j in sorted(wanted)[:count]
    ]
    assert [pair.cosine for pair in found] == pytest.approx(
        [-value for value, _, _ in sorted(wanted)[:count]]
    )
    assert all(pair[:2] == (f"e{pair.event_row}", f"o{pair.object_row}") for pair in found)


def test_equal_rows_come_in_their_order():
    row = np.random.default_rng(0).standard_normal(1024)
    pairs = find_nearest_pairs(
        np.tile(row, (7, 1)), np.tile(2 * row, (5, 1)), "abcdefg", "vwxyz", 35
    )
    assert [(pair.event, pair.object) for pair in pairs] == [
        (a, b) for a in "abcdefg" for b in "vwxyz"
    ]
    assert {pair.cosine for pair in pairs} == {1.0}


def test_umap_keeps_neighbours_and_repeats():
    events, objects = planted()
    places = embed_classes(events, objects, seed=3)
    assert places.shape == (80, 2)
    far = np.linalg.norm(places[:40, None] - places[None, 40:], axis=2)  # (40,40) event to object
    assert np.diag(far).mean() < 0.2 * far.mean()
    one, other = np.arange(40) < 20, np.arange(40) >= 20
    assert far[np.ix_(one, one)].max() < far[np.ix_(one, other)].min()
    assert np.array_equal(embed_classes(events, objects, seed=3), places)
    assert not np.allclose(embed_classes(events, objects, seed=4), places)


def test_the_smallest_model_has_a_map():
    assert np.isfinite(embed_classes(np.eye(4)[:2], np.eye(4)[2:] + 1, seed=0)).all()


def test_three_files_that_repeat(tiny: Config, tmp_path: Path):
    trained = trained_on(tiny)
    files = [
        write_map(tmp_path / folder, build_map(trained, "m", 12, seed=1)) for folder in ("a", "b")
    ]
    assert [path.name for path in files[0]] == ["map.html", "map.png", "pairs.tsv"]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    with Image.open(files[0][1]) as picture:
        assert picture.size == (1650, 1275)
        assert len(picture.convert("RGB").getcolors(2**22)) > 100  # something is drawn


def test_the_page_is_whole_and_takes_names_as_they_are(tiny: Config):
    trained = trained_on(tiny)
    names = (trained.event_names, trained.object_names)
    weights = [np.random.default_rng(seed).standard_normal((64, 8)) for seed in (0, 1)]
    places = np.random.default_rng(2).standard_normal((128, 2))
    pairs = find_nearest_pairs(
        *weights, *names, count=64 * 64
    )  # so that every name stands in the table
    page = render_page(ClassMap("models:/<b>@best", *names, places, pairs))
    assert "://" not in page
    assert not re.search(r"@import|url\(|\bimport\b|fetch\(|XMLHttpRequest", page)
    read = Reader(page)
    assert not {tag for tag, _ in read.tags} & {
        "b",
        "link",
        "img",
        "iframe",
        "image",
        "use",
        "base",
        "object",
    }
    attributes = {name for _, own in read.tags for name in own}
    assert not attributes & {"src", "href", "xlink:href"}
    assert not any(name.startswith("on") for name in attributes)
    assert sum(tag == "script" for tag, _ in read.tags) == 1
    (own,) = [own for _, own in read.tags if own.get("id") == "map"]
    assert (own["tabindex"], own["aria-describedby"]) == ("0", "keys")
    assert [own["data-key"] for tag, own in read.tags if tag == "button"] == ["+", "-", "0"]
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", '"+"', '"-"', "0"):
        assert f"  {key}: " in page  # what a wheel and a pointer do, keys do too
    wheel = page.split('map.addEventListener("wheel"')[1].split("event.preventDefault()")[0]
    assert (
        "document.activeElement !== map) return;" in wheel
    )  # a page that is scrolled past is not held up
    assert read.texts["h1"] == ["Events and objects of models:/<b>@best"]
    assert read.texts["text"] == [*names[0], *names[1]]
    titles = [f"{name} (event)" for name in names[0]] + [f"{name} (object)" for name in names[1]]
    assert read.texts["title"] == ["Events and objects of models:/<b>@best", *titles]
    assert read.texts["td"][:3] == [pairs[0].event, pairs[0].object, f"{pairs[0].cosine:.3f}"]
    assert len(read.texts["td"]) == 3 * 64 * 64
    assert set(HOSTILE) < set(read.texts["td"])
    marks = [own for _, own in read.tags if (own.get("class") or "").startswith("mark ")]
    assert [own["class"] for own in marks] == ["mark event"] * 64 + ["mark object"] * 64
    spots = np.array([(float(own["data-x"]), float(own["data-y"])) for own in marks])
    assert (spots > 0).all()
    assert (spots < (1000, 640)).all()
    assert np.corrcoef(spots[:, 0], places[:, 0])[0, 1] == pytest.approx(1, abs=1e-5)
    assert np.corrcoef(spots[:, 1], places[:, 1])[0, 1] == pytest.approx(
        -1, abs=1e-5
    )  # a page counts from the top


@pytest.mark.parametrize(("modality", "lacking"), [("audio", "object"), ("visual", "event")])
def test_one_modality_has_no_map(modality: str, lacking: str):
    trained = trained_on(resolve("demo", parse_set([*TINY, f"modality={modality}"])))
    with pytest.raises(UserError) as caught:
        build_map(trained, "best:x", 20, 0)
    lacks = f"a model of modality {modality} has no {lacking} classifier"
    wanted = f"best:x: {lacks}; a model of modality audio-visual"
    assert str(caught.value) == wanted


def test_what_a_model_was_trained_on_is_saved(tiny: Config, tmp_path: Path):
    save_trained(tmp_path, trained_on(tiny))
    assert load_trained(tmp_path).trained_on == "embedded scenes (synthetic)"
    older = json.loads((tmp_path / "model.json").read_text())
    del older["extra"]["trained_on"]
    (tmp_path / "model.json").write_text(json.dumps(older))
    assert load_trained(tmp_path).trained_on == ""


def test_the_title_says_what_is_known(tiny: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "avsc_core.evaluation.class_map.embed_classes",
        lambda events, objects, seed: np.zeros((128, 2)),
    )
    assert (
        build_map(trained_on(tiny), "m", 3, 0).title
        == "m, trained on embedded scenes (synthetic) with CEOA"
    )
    off = resolve("demo", parse_set([*TINY, "loss_weights.e2o=0", "loss_weights.o2e=0"]))
    assert (
        build_map(trained_on(off, ""), "m", 3, 0).title
        == "m, trained on data its folder does not name without CEOA"
    )


@pytest.mark.parametrize(
    "source", ["embedded scenes (synthetic)", "embedded scenes (synthetic) in /x", "/data/TAU", ""]
)
def test_pairs_of_embedded_scenes_say_so(
    tiny: Config, monkeypatch: pytest.MonkeyPatch, source: str
):
    monkeypatch.setattr(
        "avsc_core.evaluation.class_map.embed_classes",
        lambda events, objects, seed: np.zeros((128, 2)),
    )
    table = format_pairs(build_map(trained_on(tiny, source), "m", 3, 0))
    rows = list(csv.reader(io.StringIO(table), delimiter="\t"))
    assert {len(row) for row in rows} == {4 if source.startswith("embedded") else 3}
    assert table.count(LABEL) == (3 if source.startswith("embedded") else 0)


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("best:lambda", "best-lambda"),
        ("models:/avsc-x@best", "models-avsc-x-best"),
        ("../m/", "m"),
        ("..", "model"),
    ],
)
def test_a_folder_for_each_model(model: str, folder: str):
    assert choose_folder(model) == Path("maps") / folder


def test_the_command(tiny: Config, tmp_path: Path):
    save_trained(tmp_path / "model", trained_on(tiny))
    code, out, err = run(tmp_path, "avsc-core", "map", "model", "--names", "5")
    assert (code, err) == (0, "")
    assert "embedded scenes (synthetic)" in " ".join(out.split())
    assert "pairs: maps/model/pairs.tsv" in out
    assert sorted(path.name for path in (tmp_path / "maps" / "model").iterdir()) == [
        "map.html",
        "map.png",
        "pairs.tsv",
    ]
    lines = (tmp_path / "maps" / "model" / "pairs.tsv").read_text().splitlines()
    assert lines[0] == "event\tobject\tcosine\tdata"
    assert len(lines) == 6
    assert all(line.endswith(f"\t{LABEL}") for line in lines[1:])
    code, _, err = run(tmp_path, "avsc-core", "map", "model", "--out", "model/model.json")
    assert (code, err) == (2, "model/model.json: is not a folder; give --out a folder\n")


def test_without_the_extra_it_costs_one_line(tiny: Config, tmp_path: Path):
    save_trained(tmp_path / "model", trained_on(tiny))
    without = "import sys; sys.modules['umap'] = None; from avsc_core.cli import main; main()"
    code, out, err = run_process(tmp_path, "python", "-c", without, "map", "model")
    assert (code, out) == (2, "")
    assert err.startswith("umap-learn: cannot be used (")
    assert err.endswith("; pip install 'avsc[map]'\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "maps").exists()
