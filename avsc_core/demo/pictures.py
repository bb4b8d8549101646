"""This module draws the frames of the embedded scenes: 64 objects made of seventeen small shapes.

In: the names of the objects seen in a clip. Out: ten seconds at 10 frames a second, 100 frames
(96,96,3) uint8 RGB.

A shape is a function that draws in two colours onto a canvas of w x h pixels; SHAPES, at the end of
the file, names them. An object is a shape with its size, floor and motion: a line of objects.yaml.
The location gives light, tint and backdrop, which all its clips share.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from avsc_core.yaml_file import read_yaml

FRAMES = 100
FRAME_RATE = 10
SIZE = 96  # pixels each way: a small picture that still holds six objects
SCALE = 3  # objects are drawn three times as large and shrunk, which smooths their edges
THICK = 2 * SCALE  # a broad line on the enlarged canvas

TYRE = (25, 25, 28)
TROUSERS = (45, 45, 60)
CLOCK_FACE = (245, 240, 220)

Pen = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


@cache
def read_objects() -> "dict[str, Thing]":
    """Read the 64 objects by name, in the order of the labels."""
    rows = read_yaml(Path(__file__).with_name("objects.yaml")).data
    return {name: Thing(*columns) for name, columns in rows.items()}


def draw_frames(names: Sequence[str], place: Generator, rng: Generator) -> Iterator[np.ndarray]:
    """Yield the frames (96,96,3) uint8 of a clip in which the objects `names` are seen.

    `place` is a fresh generator seeded by the location, so that all clips of it have one look.
    """
    # The location: brightness and tint of red, green and blue, and what is behind the objects.
    brightness = place.uniform(0.8, 1.15)
    light = brightness * place.uniform(0.9, 1.1, 3)  # (3,)
    backdrop = _draw_backdrop(place)

    # The camera is held by hand and sways by a few pixels.
    turns = rng.uniform(2, 6)
    phase = np.linspace(0, turns, FRAMES) + rng.uniform(0, 6)
    sway = rng.uniform(1, 3) * np.sin(phase)  # (100,) pixels

    # Each object gets a slot of its own, so objects stand apart; small ones are drawn in front.
    objects = read_objects()
    slots = rng.permutation(len(names))
    sprites = []
    for name, slot in zip(names, slots, strict=True):
        sprites.append(_place_sprite(objects[name], slot, len(names), rng))
    sprites.sort(key=_measure_area, reverse=True)

    for frame in range(FRAMES):
        picture = backdrop.copy()
        for sprite in sprites:
            left = _find_left_edge(sprite, frame, sway[frame])
            corner = (round(left), round(sprite.top))
            picture.paste(sprite.image, corner, sprite.image)
        yield np.minimum(np.asarray(picture) * light, 255).astype(np.uint8)


class Sprite(NamedTuple):
    """An object as it is drawn in one clip; lengths in pixels of the final picture."""

    image: Image.Image
    start: float  # its left edge in the first frame
    speed: float  # to the right, per frame
    top: float  # its upper edge


def _place_sprite(thing: "Thing", slot: int, slots: int, rng: Generator) -> Sprite:
    """Draw an object for a clip, somewhere in its slot of the picture's width."""
    place_in_slot = rng.uniform(0.2, 0.8)
    start = (slot + place_in_slot) / slots * (SIZE - thing.width)
    speed = thing.speed * rng.uniform(0.7, 1.3) * rng.choice([-1, 1])
    image = _draw_object(thing, rng)
    top = thing.floor - thing.height + rng.uniform(-3, 3)
    return Sprite(image, start, speed, top)


def _find_left_edge(sprite: Sprite, frame: int, sway: float) -> float:
    """Find where a sprite is in a frame. One that leaves on one side comes back on the other."""
    if not sprite.speed:
        return sprite.start + sway

    width = sprite.image.width
    moved = sprite.start + sprite.speed * frame + width
    return moved % (SIZE + width) - width


def _measure_area(sprite: Sprite) -> int:
    """Return the area of a sprite in pixels."""
    return sprite.image.width * sprite.image.height


def _draw_backdrop(place: Generator) -> Image.Image:
    """Draw the ground, wall and grain of a location; they are independent of the scene."""
    horizon = place.integers(50, 70)
    wall, ground = place.integers(115, 185, (2, 1, 1, 3))
    row = np.arange(SIZE)[:, None, None]  # (96,1,1)
    shade = np.where(row < horizon, wall, ground)  # (96,1,3)

    coarse_grain = place.normal(0, 6, (SIZE // 4, SIZE // 4, 1))  # (24,24,1)
    grain = coarse_grain.repeat(4, axis=0).repeat(4, axis=1)  # (96,96,1)
    return Image.fromarray((shade + grain).clip(0, 255).astype(np.uint8))


def _draw_object(thing: "Thing", rng: Generator) -> Image.Image:
    """Draw an object on a transparent background, its colours a little different in every clip."""
    width = thing.width * SCALE
    height = thing.height * SCALE
    colour = _vary_colour(thing.colour, rng)
    accent = _vary_colour(thing.accent, rng)

    image = Image.new("RGBA", (width, height), (*colour, 0))
    draw = SHAPES[thing.shape]
    draw(ImageDraw.Draw(image), width - 1, height - 1, colour, accent, thing.repeats)
    return image.resize((thing.width, thing.height), Image.Resampling.BOX)


def _vary_colour(colour: Sequence[int], rng: Generator) -> Colour:
    """Change each of red, green and blue by up to 14 of 255."""
    varied = np.array(colour) + rng.integers(-14, 15, 3)
    red, green, blue = np.clip(varied, 0, 255).tolist()
    return red, green, blue


def draw_panel(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a framed board with `repeats` lines of writing: sign, map, screen, door."""
    pen.rectangle((0, 0, w, h), fill=colour, outline=accent, width=SCALE)

    left = w * 0.2
    right = w * 0.8
    for line in range(repeats):
        y = h * (line + 1) // (repeats + 1)
        pen.line((left, y, right, y), fill=accent, width=SCALE)


def draw_grid(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a surface with `repeats` columns of openings: facade, glass roof, tiles."""
    pen.rectangle((0, 0, w, h), fill=colour)

    step = w / repeats
    rows = max(1, round(h / step))
    for row in range(rows):
        y = row * step
        top = y + 0.2 * step
        bottom = min(h, y + 0.8 * step)  # the last row may not fit as a whole
        for column in range(repeats):
            x = column * step
            left = x + 0.2 * step
            right = x + 0.8 * step
            pen.rectangle((left, top, right, bottom), fill=accent)


def draw_stripes(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` upright stripes: awning, fence, zebra crossing, escalator comb."""
    for stripe in range(repeats):
        left = w * stripe // repeats
        right = w * (stripe + 1) // repeats
        pen.rectangle((left, 0, right, h), fill=accent if stripe % 2 else colour)


def draw_vehicle(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a body with `repeats` windows above two wheels."""
    # The body.
    pen.rounded_rectangle((0, 0, w, h * 0.8), radius=h // 6, fill=colour)

    # The windows.
    top = h * 0.12
    bottom = h * 0.42
    for window in range(repeats):
        left = w * (window + 0.15) / repeats
        right = left + 0.7 * w / repeats
        pen.rectangle((left, top, right, bottom), fill=accent)

    # The wheels.
    radius = h * 0.2
    for x in (w * 0.2, w * 0.8):
        pen.ellipse((x - radius, h * 0.6, x + radius, h), fill=TYRE)


def draw_cycle(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw two wheels of radius h * `repeats` / 20, a frame and a handle: bicycle, pushchair."""
    radius = h * repeats / 20
    top = h - 2 * radius
    for x in (radius, w - radius):
        pen.ellipse((x - radius, top, x + radius, h), outline=accent, width=THICK)

    frame = [
        (radius, h - radius),
        (w * 0.4, h * 0.3),
        (w * 0.75, h * 0.3),
        (w - radius, h - radius),
        (w * 0.7, 0),
    ]
    pen.line(frame, fill=colour, width=3 * SCALE)


def draw_tree(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a trunk or a pot under a crown of `repeats` round parts: tree, potted plant."""
    # The trunk.
    pen.rectangle((w * 0.44, h * 0.4, w * 0.56, h), fill=accent)

    # The crown, its parts from left to right.
    width = w * (0.6 if repeats > 1 else 1)
    height = h * 0.6
    for part in range(repeats):
        left = (w - w * 0.6) * part / max(1, repeats - 1)
        top = h * 0.15 * (part % 2)
        pen.ellipse((left, top, left + width, top + height), fill=colour)


def draw_seats(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a row of `repeats` seats with backs: bench, seats in a cabin, table, stall."""
    step = w / repeats
    floor = h * 0.6
    for seat in range(repeats):
        x = w * seat / repeats

        # The back.
        left = x + 0.06 * step
        right = x + 0.94 * step
        pen.rounded_rectangle((left, 0, right, floor), radius=h // 8, fill=colour)

        # The two legs.
        pen.rectangle((x + 0.1 * step, floor, x + 0.2 * step, h), fill=accent)
        pen.rectangle((x + 0.8 * step, floor, x + 0.9 * step, h), fill=accent)

    # The surface one sits on.
    pen.rectangle((0, h * 0.55, w, h * 0.72), fill=accent)


def draw_person(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` figures side by side, each a head, a coat and two legs."""
    step = w / repeats
    neck = h * 0.22
    waist = h * 0.65
    for figure in range(repeats):
        x = step * figure

        # The head, then the coat.
        pen.ellipse((x + 0.3 * step, 0, x + 0.7 * step, neck), fill=accent)
        coat = (x + 0.15 * step, neck, x + 0.85 * step, waist)
        pen.rounded_rectangle(coat, radius=w // 8, fill=colour)

        # The legs.
        for leg in (0.25, 0.55):
            left = x + leg * step
            right = x + (leg + 0.2) * step
            pen.rectangle((left, waist, right, h), fill=TROUSERS)


def draw_pole(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a pole with `repeats` heads one below the other: street lamp, traffic light."""
    pen.rectangle((w * 0.42, 0, w * 0.58, h), fill=colour)

    size = min(w, h * 0.6 / repeats)
    left = (w - size) / 2
    right = (w + size) / 2
    for head in range(repeats):
        top = head * size
        bottom = (head + 1) * size
        pen.ellipse((left, top, right, bottom), fill=accent)


def draw_hangers(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a rail from which `repeats` things hang: straps, ceiling lamps, lanterns."""
    # The rail.
    pen.rectangle((0, 0, w, h * 0.12), fill=colour)

    # Each thing on its cord.
    size = min(h * 0.5, w * 0.4 / repeats)
    half = size / 1.5
    top = h - 1.3 * size
    for hanger in range(repeats):
        x = w * (hanger + 0.5) / repeats
        pen.line((x, 0, x, h - size), fill=colour, width=SCALE)
        pen.ellipse((x - half, top, x + half, h), fill=accent)


def draw_steps(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` steps that rise to the right, with a handrail: stairs, escalator."""
    for step in range(repeats):
        left = w * step / repeats
        right = w * (step + 1) / repeats
        top = h * (1 - 0.75 * (step + 1) / repeats)
        pen.rectangle((left, top, right, h), fill=colour)
        pen.rectangle((left, top, right, top + THICK), fill=accent)

    # The handrail.
    pen.line((0, h * 0.75, w, 0), fill=accent, width=THICK)


def draw_track(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw two rails that meet in the distance, over `repeats` sleepers."""
    middle = w / 2
    for sleeper in range(repeats):
        # The nearer a sleeper, the wider it is, and the farther from the next one.
        y = h * ((sleeper + 1) / repeats) ** 1.5
        half = w * (0.12 + 0.38 * y / h)
        pen.line((middle - half, y, middle + half, y), fill=accent, width=THICK)

    for side in (-1, 1):
        far_end = middle + side * w * 0.06
        near_end = middle + side * w * 0.38
        pen.line((far_end, 0, near_end, h), fill=colour, width=THICK)


def draw_arch(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a wall with `repeats` round openings: tunnel mouth, bridge, arcade."""
    pen.rectangle((0, 0, w, h), fill=colour)

    step = w / repeats
    top = h * 0.15
    bottom = h * 1.6  # below the picture: only the upper part of the ellipse is seen
    for opening in range(repeats):
        x = w * opening / repeats
        left = x + 0.1 * step
        right = x + 0.9 * step
        pen.ellipse((left, top, right, bottom), fill=accent)


def draw_tower(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a body under a pointed roof with `repeats` round faces: clock tower, parasol."""
    # The roof, then the body.
    eaves = h * 0.3
    pen.polygon([(0, eaves), (w / 2, 0), (w, eaves)], fill=accent)
    pen.rectangle((w * 0.1, eaves, w * 0.9, h), fill=colour)

    # The faces.
    for face in range(repeats):
        top = h * (0.38 + 0.2 * face)
        bottom = top + w * 0.4
        box = (w * 0.3, top, w * 0.7, bottom)
        pen.ellipse(box, fill=CLOCK_FACE, outline=accent, width=SCALE)


def draw_animal(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` small animals, each a body, a head and two legs."""
    step = w / repeats
    for animal in range(repeats):
        x = step * animal
        body = (x, h * 0.3, x + 0.75 * step, h * 0.75)
        pen.ellipse(body, fill=colour)
        head = (x + 0.6 * step, h * 0.05, x + 0.95 * step, h * 0.45)
        pen.ellipse(head, fill=accent)

        # The legs.
        for leg in (0.2, 0.5):
            foot = x + leg * step
            pen.line((foot, h * 0.7, foot, h), fill=accent, width=SCALE)


def draw_bag(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a box with a handle and `repeats` straps: suitcase, shopping bag, bin."""
    # The handle, then the box.
    handle = (w * 0.25, 0, w * 0.75, h * 0.5)
    pen.arc(handle, 180, 360, fill=accent, width=THICK)
    top = h * 0.25
    pen.rounded_rectangle((0, top, w, h), radius=w // 8, fill=colour)

    # The straps.
    for strap in range(repeats):
        x = w * (strap + 1) / (repeats + 1)
        pen.line((x, top, x, h), fill=accent, width=SCALE)


def draw_disc(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` rings around a centre: button, clock, balloon, pond."""
    for ring in range(repeats):
        inset = 0.5 * ring / repeats
        far = 1 - inset
        box = (w * inset, h * inset, w * far, h * far)
        pen.ellipse(box, fill=accent if ring % 2 else colour)


class Thing(NamedTuple):
    """How an object is drawn, a line of objects.yaml; lengths in pixels of the final picture."""

    shape: str  # a key of SHAPES
    width: int
    height: int
    floor: int  # its lower edge, from the top of the picture
    colour: list[int]  # red, green, blue
    accent: list[int]
    repeats: int  # how often the shape repeats a part of itself
    speed: float = 0  # per frame


SHAPES: dict[str, Callable[..., None]] = {
    "animal": draw_animal,
    "arch": draw_arch,
    "bag": draw_bag,
    "cycle": draw_cycle,
    "disc": draw_disc,
    "grid": draw_grid,
    "hangers": draw_hangers,
    "panel": draw_panel,
    "person": draw_person,
    "pole": draw_pole,
    "seats": draw_seats,
    "steps": draw_steps,
    "stripes": draw_stripes,
    "tower": draw_tower,
    "track": draw_track,
    "tree": draw_tree,
    "vehicle": draw_vehicle,
}
