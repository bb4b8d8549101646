"""The pictures of the embedded scenes: 64 objects, each drawn from seventeen small shapes.

In: the names of the objects seen in a clip. Out: ten seconds at 10 frames a second, 100 frames (96,96,3) uint8 RGB.
A shape is a function that draws onto a canvas of given size in two colours; an object is a shape with its size, floor
and motion (OBJECTS at the end of the file). The place gives light, tint and background, shared by all its clips.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

FRAMES = 100
FRAME_RATE = 10
SIZE = 96  # pixels each way: a small picture that still holds six objects
SCALE = 3  # objects are drawn three times as large and shrunk, which smooths their edges
Pen = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


def draw_frames(
    names: Sequence[str], place: np.random.Generator, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the frames (96,96,3) of a clip; a fresh generator seeded by the place gives all its clips one look."""
    light = place.uniform(0.8, 1.15) * place.uniform(0.9, 1.1, 3)  # brightness and tint of R, G, B
    backdrop = _draw_backdrop(place)
    phase = np.linspace(0, rng.uniform(2, 6), FRAMES) + rng.uniform(0, 6)
    sway = rng.uniform(1, 3) * np.sin(phase)  # (100,) pixels: a camera held by hand
    slots = rng.permutation(len(names))  # objects stand apart from each other
    sprites = []
    for name, slot in zip(names, slots, strict=True):
        thing = OBJECTS[name]
        start = (slot + rng.uniform(0.2, 0.8)) / len(names) * (SIZE - thing.width)
        speed = thing.speed * rng.uniform(0.7, 1.3) * rng.choice([-1, 1])
        sprites.append(
            (
                _draw_object(thing, rng),
                start,
                speed,
                thing.floor - thing.height + rng.uniform(-3, 3),
            )
        )
    sprites.sort(
        key=lambda sprite: sprite[0].width * sprite[0].height, reverse=True
    )  # small things in front
    for frame in range(FRAMES):
        picture = backdrop.copy()
        for sprite, start, speed, top in sprites:
            left = start + sway[frame]
            if speed:  # what leaves on one side comes back on the other
                left = (start + speed * frame + sprite.width) % (SIZE + sprite.width) - sprite.width
            picture.paste(sprite, (round(left), round(top)), sprite)
        yield np.minimum(np.asarray(picture) * light, 255).astype(np.uint8)


def _draw_backdrop(place: np.random.Generator) -> Image.Image:
    """Ground, wall and texture of a place; it says nothing about the scene."""
    horizon = place.integers(50, 70)
    wall, ground = place.integers(115, 185, (2, 1, 1, 3))
    shade = np.where(np.arange(SIZE)[:, None, None] < horizon, wall, ground)  # (96,1,3)
    grain = (
        place.normal(0, 6, (SIZE // 4, SIZE // 4, 1)).repeat(4, axis=0).repeat(4, axis=1)
    )  # (96,96,1)
    return Image.fromarray((shade + grain).clip(0, 255).astype(np.uint8))


def _draw_object(thing: "Thing", rng: np.random.Generator) -> Image.Image:
    """One object with a transparent background, its colours a little different in every clip."""
    width, height = thing.width * SCALE, thing.height * SCALE
    colour, accent = _vary(thing.colour, rng), _vary(thing.accent, rng)
    sprite = Image.new("RGBA", (width, height), (*colour, 0))
    thing.draw(ImageDraw.Draw(sprite), width - 1, height - 1, colour, accent, thing.repeats)
    return sprite.resize((thing.width, thing.height), Image.Resampling.BOX)


def _vary(colour: Colour, rng: np.random.Generator) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.integers(-14, 15, 3), 0, 255).tolist()
    return red, green, blue


def panel(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A framed board with `repeats` lines of writing: sign, map, screen, door."""
    pen.rectangle((0, 0, w, h), fill=colour, outline=accent, width=SCALE)
    for line in range(repeats):
        y = h * (line + 1) // (repeats + 1)
        pen.line((w * 0.2, y, w * 0.8, y), fill=accent, width=SCALE)


def grid(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A surface with `repeats` columns of openings: facade, glass roof, tiles."""
    pen.rectangle((0, 0, w, h), fill=colour)
    step = w / repeats
    for row in range(max(1, round(h / step))):
        for column in range(repeats):
            x, y = column * step, row * step
            pen.rectangle(
                (x + 0.2 * step, y + 0.2 * step, x + 0.8 * step, min(h, y + 0.8 * step)),
                fill=accent,
            )


def stripes(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """`repeats` upright stripes: awning, fence, zebra crossing, escalator comb."""
    for stripe in range(repeats):
        edges = (w * stripe // repeats, 0, w * (stripe + 1) // repeats, h)
        pen.rectangle(edges, fill=accent if stripe % 2 else colour)


def vehicle(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A body with `repeats` windows above two wheels."""
    pen.rounded_rectangle((0, 0, w, h * 0.8), radius=h // 6, fill=colour)
    for window in range(repeats):
        x = w * (window + 0.15) / repeats
        pen.rectangle((x, h * 0.12, x + 0.7 * w / repeats, h * 0.42), fill=accent)
    for x in (w * 0.2, w * 0.8):
        pen.ellipse((x - h * 0.2, h * 0.6, x + h * 0.2, h), fill=(25, 25, 28))


def cycle(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Two wheels of `repeats` units of radius, a frame and a handle: bicycle, pushchair, wheelchair."""
    radius = h * repeats / 20
    for x in (radius, w - radius):
        pen.ellipse((x - radius, h - 2 * radius, x + radius, h), outline=accent, width=2 * SCALE)
    frame = [
        (radius, h - radius),
        (w * 0.4, h * 0.3),
        (w * 0.75, h * 0.3),
        (w - radius, h - radius),
        (w * 0.7, 0),
    ]
    pen.line(frame, fill=colour, width=3 * SCALE)


def tree(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A trunk, or a pot, under a crown of `repeats` round parts: tree, potted plant."""
    pen.rectangle((w * 0.44, h * 0.4, w * 0.56, h), fill=accent)
    for part in range(repeats):
        x = (w - w * 0.6) * part / max(1, repeats - 1)
        y = h * 0.15 * (part % 2)
        pen.ellipse((x, y, x + w * (0.6 if repeats > 1 else 1), y + h * 0.6), fill=colour)


def seats(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A row of `repeats` seats with backs: bench, seats in a cabin, table, stall."""
    for seat in range(repeats):
        x, step = w * seat / repeats, w / repeats
        pen.rounded_rectangle(
            (x + 0.06 * step, 0, x + 0.94 * step, h * 0.6), radius=h // 8, fill=colour
        )
        pen.rectangle((x + 0.1 * step, h * 0.6, x + 0.2 * step, h), fill=accent)
        pen.rectangle((x + 0.8 * step, h * 0.6, x + 0.9 * step, h), fill=accent)
    pen.rectangle((0, h * 0.55, w, h * 0.72), fill=accent)


def person(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """`repeats` figures side by side, each a head, a coat and two legs."""
    for figure in range(repeats):
        step = w / repeats
        x = step * figure
        pen.ellipse((x + 0.3 * step, 0, x + 0.7 * step, h * 0.22), fill=accent)
        pen.rounded_rectangle(
            (x + 0.15 * step, h * 0.22, x + 0.85 * step, h * 0.65), radius=w // 8, fill=colour
        )
        for leg in (0.25, 0.55):
            pen.rectangle((x + leg * step, h * 0.65, x + (leg + 0.2) * step, h), fill=(45, 45, 60))


def pole(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A pole with `repeats` heads one below the other: street lamp, traffic light, parking meter."""
    pen.rectangle((w * 0.42, 0, w * 0.58, h), fill=colour)
    size = min(w, h * 0.6 / repeats)
    for head in range(repeats):
        pen.ellipse(((w - size) / 2, head * size, (w + size) / 2, (head + 1) * size), fill=accent)


def hangers(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A rail from which `repeats` things hang: straps, ceiling lamps, lanterns."""
    pen.rectangle((0, 0, w, h * 0.12), fill=colour)
    for hanger in range(repeats):
        x, size = w * (hanger + 0.5) / repeats, min(h * 0.5, w * 0.4 / repeats)
        pen.line((x, 0, x, h - size), fill=colour, width=SCALE)
        pen.ellipse((x - size / 1.5, h - 1.3 * size, x + size / 1.5, h), fill=accent)


def steps(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """`repeats` steps that rise to the right, with a handrail: stairs, escalator."""
    for step in range(repeats):
        x, y = w * step / repeats, h * (1 - 0.75 * (step + 1) / repeats)
        pen.rectangle((x, y, w * (step + 1) / repeats, h), fill=colour)
        pen.rectangle((x, y, w * (step + 1) / repeats, y + 2 * SCALE), fill=accent)
    pen.line((0, h * 0.75, w, 0), fill=accent, width=2 * SCALE)


def track(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Two rails that meet in the distance, over `repeats` sleepers; also paths and wires."""
    for sleeper in range(repeats):
        y = h * ((sleeper + 1) / repeats) ** 1.5
        half = w * (0.12 + 0.38 * y / h)
        pen.line((w / 2 - half, y, w / 2 + half, y), fill=accent, width=2 * SCALE)
    for side in (-1, 1):
        pen.line(
            (w / 2 + side * w * 0.06, 0, w / 2 + side * w * 0.38, h), fill=colour, width=2 * SCALE
        )


def arch(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A wall with `repeats` round openings: tunnel mouth, bridge, arcade."""
    pen.rectangle((0, 0, w, h), fill=colour)
    for opening in range(repeats):
        x, step = w * opening / repeats, w / repeats
        pen.ellipse((x + 0.1 * step, h * 0.15, x + 0.9 * step, h * 1.6), fill=accent)


def tower(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A body under a pointed roof, with `repeats` round faces: clock tower; without a face, a parasol."""
    pen.polygon([(0, h * 0.3), (w / 2, 0), (w, h * 0.3)], fill=accent)
    pen.rectangle((w * 0.1, h * 0.3, w * 0.9, h), fill=colour)
    for face in range(repeats):
        y = h * (0.38 + 0.2 * face)
        pen.ellipse(
            (w * 0.3, y, w * 0.7, y + w * 0.4), fill=(245, 240, 220), outline=accent, width=SCALE
        )


def animal(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """`repeats` small animals: a body, a head, two legs."""
    step = w / repeats
    for x in (step * beast for beast in range(repeats)):
        pen.ellipse((x, h * 0.3, x + 0.75 * step, h * 0.75), fill=colour)
        pen.ellipse((x + 0.6 * step, h * 0.05, x + 0.95 * step, h * 0.45), fill=accent)
        for leg in (0.2, 0.5):
            pen.line((x + leg * step, h * 0.7, x + leg * step, h), fill=accent, width=SCALE)


def bag(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """A box with a handle and `repeats` straps: suitcase, shopping bag, bin."""
    pen.arc((w * 0.25, 0, w * 0.75, h * 0.5), 180, 360, fill=accent, width=2 * SCALE)
    pen.rounded_rectangle((0, h * 0.25, w, h), radius=w // 8, fill=colour)
    for strap in range(repeats):
        x = w * (strap + 1) / (repeats + 1)
        pen.line((x, h * 0.25, x, h), fill=accent, width=SCALE)


def disc(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """`repeats` rings around a centre: button, clock, balloon, pond."""
    for ring in range(repeats):
        inset = 0.5 * ring / repeats
        box = (w * inset, h * inset, w * (1 - inset), h * (1 - inset))
        pen.ellipse(box, fill=accent if ring % 2 else colour)


class Thing(NamedTuple):
    """An object: its shape, size, place and motion in pixels of the final picture."""

    draw: Callable[[Pen, int, int, Colour, Colour, int], None]
    width: int
    height: int
    floor: int  # where its lower edge stands, from the top
    colour: Colour
    accent: Colour
    repeats: int  # how many of what the shape repeats
    speed: float = 0  # per frame


OBJECTS = {
    # in a cabin
    "row of seats": Thing(seats, 92, 34, 95, (40, 70, 190), (25, 25, 60), 3),
    "hanging straps": Thing(hangers, 84, 22, 24, (235, 225, 60), (245, 120, 20), 5),
    "wide window": Thing(grid, 88, 34, 56, (90, 95, 105), (190, 230, 250), 2),
    "grab pole": Thing(pole, 12, 90, 94, (250, 210, 20), (250, 210, 20), 1),
    "ticket machine": Thing(panel, 20, 32, 72, (245, 110, 20), (255, 250, 230), 2),
    "stop button": Thing(disc, 15, 15, 48, (215, 20, 30), (255, 235, 235), 2),
    "window wiper": Thing(steps, 26, 20, 50, (70, 75, 85), (20, 20, 25), 4),
    # under the ground
    "tunnel mouth": Thing(arch, 62, 46, 62, (95, 85, 90), (12, 10, 16), 1),
    "railway track": Thing(track, 94, 32, 96, (215, 215, 225), (60, 40, 30), 7),
    "platform edge": Thing(stripes, 94, 9, 72, (250, 220, 30), (30, 28, 20), 12),
    "tiled wall": Thing(grid, 92, 26, 28, (235, 235, 240), (150, 40, 60), 11),
    "line map": Thing(panel, 36, 24, 46, (250, 250, 250), (200, 20, 120), 3),
    "door button": Thing(disc, 15, 15, 52, (40, 220, 90), (20, 90, 40), 4),
    "platform clock": Thing(disc, 22, 22, 34, (20, 20, 30), (250, 250, 245), 2),
    # in the concourse
    "escalator": Thing(steps, 58, 52, 90, (105, 110, 125), (20, 190, 190), 8),
    "glass roof": Thing(grid, 94, 30, 30, (80, 130, 140), (170, 245, 240), 6),
    "shop front": Thing(arch, 48, 38, 66, (225, 60, 140), (255, 215, 235), 2),
    "ceiling lamps": Thing(hangers, 88, 22, 32, (120, 120, 120), (255, 255, 225), 7),
    "polished floor": Thing(stripes, 94, 18, 96, (225, 215, 195), (185, 165, 215), 7),
    "suitcase": Thing(bag, 20, 26, 92, (20, 110, 120), (10, 30, 40), 2, 0.4),
    "shopping bag": Thing(bag, 18, 24, 88, (250, 130, 190), (120, 20, 80), 0, 0.5),
    # on the plaza
    "facade": Thing(grid, 80, 46, 60, (215, 150, 95), (95, 55, 40), 6),
    "striped awning": Thing(stripes, 64, 20, 62, (220, 40, 40), (250, 245, 235), 9),
    "cobbles": Thing(grid, 94, 24, 96, (75, 65, 70), (200, 170, 130), 8),
    "statue": Thing(person, 22, 46, 80, (90, 150, 125), (70, 125, 105), 1),
    "clock tower": Thing(tower, 30, 70, 70, (190, 120, 75), (130, 45, 35), 1),
    "pigeons": Thing(animal, 44, 13, 92, (110, 115, 135), (60, 60, 80), 4, 0.4),
    "shop sign": Thing(panel, 22, 18, 40, (30, 30, 150), (255, 240, 90), 2),
    # among the green
    "tree": Thing(tree, 48, 64, 78, (40, 140, 45), (95, 65, 35), 3),
    "lawn": Thing(stripes, 94, 26, 96, (95, 185, 60), (80, 165, 50), 9),
    "hedge": Thing(grid, 90, 16, 72, (25, 95, 40), (45, 120, 50), 14),
    "street lamp": Thing(pole, 18, 72, 84, (35, 40, 40), (255, 245, 170), 1),
    "bench": Thing(seats, 46, 24, 90, (165, 95, 35), (70, 45, 25), 2),
    "pond": Thing(disc, 46, 16, 92, (60, 130, 215), (190, 225, 250), 4),
    "traffic light": Thing(pole, 15, 52, 76, (30, 30, 30), (230, 50, 30), 3),
    # now and then, anywhere
    "passer-by": Thing(person, 15, 40, 90, (120, 60, 60), (225, 185, 150), 1, 0.8),
    "group of people": Thing(person, 40, 36, 86, (70, 80, 110), (220, 180, 150), 3, 0.4),
    "child": Thing(person, 11, 24, 90, (240, 190, 40), (230, 190, 160), 1, 0.9),
    "dog": Thing(animal, 22, 16, 92, (130, 85, 45), (100, 60, 30), 1, 1.0),
    "cat": Thing(animal, 16, 12, 92, (40, 40, 40), (60, 60, 60), 1, 0.5),
    "car": Thing(vehicle, 46, 22, 88, (190, 30, 30), (170, 210, 230), 2, 2.0),
    "taxi": Thing(vehicle, 46, 22, 88, (245, 205, 30), (30, 30, 40), 3, 1.8),
    "van": Thing(vehicle, 50, 32, 88, (235, 235, 235), (90, 120, 150), 1, 1.5),
    "lorry": Thing(vehicle, 76, 40, 90, (60, 100, 70), (190, 215, 225), 1, 1.2),
    "motorcycle": Thing(cycle, 30, 22, 90, (160, 20, 20), (20, 20, 20), 6, 2.2),
    "bicycle": Thing(cycle, 32, 22, 90, (30, 60, 140), (30, 30, 30), 5, 1.2),
    "pushchair": Thing(cycle, 20, 22, 90, (110, 50, 130), (50, 50, 50), 4, 0.6),
    "wheelchair": Thing(cycle, 24, 26, 90, (60, 60, 70), (90, 90, 100), 8, 0.5),
    "parasol": Thing(tower, 26, 40, 84, (240, 235, 225), (60, 90, 170), 0),
    "flag": Thing(stripes, 24, 15, 24, (20, 60, 170), (245, 245, 245), 3, 0.1),
    "poster": Thing(panel, 20, 28, 56, (140, 210, 210), (190, 40, 90), 4),
    "vending machine": Thing(grid, 22, 38, 82, (170, 20, 40), (240, 240, 200), 3),
    "litter bin": Thing(bag, 14, 20, 90, (60, 80, 60), (30, 40, 30), 3),
    "bollards": Thing(stripes, 50, 12, 90, (230, 230, 230), (200, 40, 40), 11),
    "flower bed": Thing(hangers, 46, 14, 92, (60, 130, 60), (235, 80, 160), 8),
    "potted plant": Thing(tree, 18, 28, 88, (70, 150, 80), (170, 90, 60), 1),
    "letter box": Thing(panel, 14, 24, 86, (220, 30, 30), (250, 210, 60), 1),
    "phone box": Thing(grid, 16, 38, 84, (190, 20, 30), (200, 220, 230), 2),
    "market stall": Thing(seats, 50, 34, 86, (240, 170, 70), (120, 70, 40), 1),
    "zebra crossing": Thing(stripes, 80, 10, 96, (245, 245, 245), (60, 60, 65), 11),
    "stairs": Thing(steps, 44, 30, 90, (175, 165, 150), (110, 100, 90), 5),
    "bridge": Thing(arch, 90, 24, 60, (150, 130, 110), (190, 215, 235), 4),
    "balloon": Thing(disc, 14, 18, 36, (230, 70, 160), (250, 170, 210), 2, 0.6),
    "aeroplane": Thing(cycle, 30, 10, 16, (240, 240, 245), (180, 190, 200), 2, 1.6),
}
