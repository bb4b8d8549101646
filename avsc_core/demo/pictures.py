"""This module draws the frames of the embedded scenes: 64 objects made of seventeen small shapes.

In: the names of the objects seen in a clip. Out: ten seconds at 10 frames a second, 100 frames
(96,96,3) uint8 RGB.

A shape is a function that draws in two colours onto a canvas of w x h pixels. An object is a shape
with its size, floor and motion (OBJECTS at the end of the file). The location gives light, tint and
backdrop, which all its clips share.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

FRAMES = 100
FRAME_RATE = 10
SIZE = 96  # pixels each way: a small picture that still holds six objects
SCALE = 3  # objects are drawn three times as large and shrunk, which smooths their edges
TYRE = (25, 25, 28)
TROUSERS = (45, 45, 60)
CLOCK_FACE = (245, 240, 220)

Pen = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


def draw_frames(
    names: Sequence[str], place: np.random.Generator, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the frames (96,96,3) uint8 of a clip in which the objects `names` are seen.

    `place` is a fresh generator seeded by the location, so that all clips of it have one look.
    """
    # The location: brightness and tint of red, green and blue, and what is behind the objects.
    light = place.uniform(0.8, 1.15) * place.uniform(0.9, 1.1, 3)  # (3,)
    backdrop = _draw_backdrop(place)

    # The camera is held by hand and sways by a few pixels.
    phase = np.linspace(0, rng.uniform(2, 6), FRAMES) + rng.uniform(0, 6)
    sway = rng.uniform(1, 3) * np.sin(phase)  # (100,) pixels

    # Each object gets a slot of its own, so objects stand apart; small ones are drawn in front.
    sprites = []
    slots = rng.permutation(len(names))
    for name, slot in zip(names, slots, strict=True):
        sprites.append(_place_sprite(OBJECTS[name], slot, len(names), rng))
    sprites.sort(key=_measure_area, reverse=True)

    for frame in range(FRAMES):
        picture = backdrop.copy()
        for sprite in sprites:
            left = sprite.start + sway[frame]
            if sprite.speed:
                # An object that leaves on one side comes back on the other.
                way = SIZE + sprite.image.width
                moved = sprite.start + sprite.speed * frame + sprite.image.width
                left = moved % way - sprite.image.width
            picture.paste(sprite.image, (round(left), round(sprite.top)), sprite.image)
        yield np.minimum(np.asarray(picture) * light, 255).astype(np.uint8)


class Sprite(NamedTuple):
    """An object as it is drawn in one clip; lengths in pixels of the final picture."""

    image: Image.Image
    start: float  # its left edge in the first frame
    speed: float  # to the right, per frame
    top: float  # its upper edge


def _place_sprite(thing: "Thing", slot: int, slots: int, rng: np.random.Generator) -> Sprite:
    """Draw an object for a clip, somewhere in its slot of the picture's width."""
    start = (slot + rng.uniform(0.2, 0.8)) / slots * (SIZE - thing.width)
    speed = thing.speed * rng.uniform(0.7, 1.3) * rng.choice([-1, 1])
    image = _draw_object(thing, rng)
    top = thing.floor - thing.height + rng.uniform(-3, 3)
    return Sprite(image, start, speed, top)


def _measure_area(sprite: Sprite) -> int:
    """Return the area of a sprite in pixels."""
    return sprite.image.width * sprite.image.height


def _draw_backdrop(place: np.random.Generator) -> Image.Image:
    """Draw the ground, wall and grain of a location; they are independent of the scene."""
    horizon = place.integers(50, 70)
    wall, ground = place.integers(115, 185, (2, 1, 1, 3))
    row = np.arange(SIZE)[:, None, None]  # (96,1,1)
    shade = np.where(row < horizon, wall, ground)  # (96,1,3)

    coarse_grain = place.normal(0, 6, (SIZE // 4, SIZE // 4, 1))  # (24,24,1)
    grain = coarse_grain.repeat(4, axis=0).repeat(4, axis=1)  # (96,96,1)
    return Image.fromarray((shade + grain).clip(0, 255).astype(np.uint8))


def _draw_object(thing: "Thing", rng: np.random.Generator) -> Image.Image:
    """Draw an object on a transparent background, its colours a little different in every clip."""
    width = thing.width * SCALE
    height = thing.height * SCALE
    colour = _vary_colour(thing.colour, rng)
    accent = _vary_colour(thing.accent, rng)
    image = Image.new("RGBA", (width, height), (*colour, 0))
    thing.draw(ImageDraw.Draw(image), width - 1, height - 1, colour, accent, thing.repeats)
    return image.resize((thing.width, thing.height), Image.Resampling.BOX)


def _vary_colour(colour: Colour, rng: np.random.Generator) -> Colour:
    """Change each of red, green and blue by up to 14 of 255."""
    varied = np.array(colour) + rng.integers(-14, 15, 3)
    red, green, blue = np.clip(varied, 0, 255).tolist()
    return red, green, blue


def draw_panel(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a framed board with `repeats` lines of writing: sign, map, screen, door."""
    pen.rectangle((0, 0, w, h), fill=colour, outline=accent, width=SCALE)
    for line in range(repeats):
        y = h * (line + 1) // (repeats + 1)
        pen.line((w * 0.2, y, w * 0.8, y), fill=accent, width=SCALE)


def draw_grid(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a surface with `repeats` columns of openings: facade, glass roof, tiles."""
    pen.rectangle((0, 0, w, h), fill=colour)
    step = w / repeats
    for row in range(max(1, round(h / step))):
        for column in range(repeats):
            x = column * step
            y = row * step
            bottom = min(h, y + 0.8 * step)  # the last row may not fit as a whole
            pen.rectangle((x + 0.2 * step, y + 0.2 * step, x + 0.8 * step, bottom), fill=accent)


def draw_stripes(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` upright stripes: awning, fence, zebra crossing, escalator comb."""
    for stripe in range(repeats):
        edges = (w * stripe // repeats, 0, w * (stripe + 1) // repeats, h)
        pen.rectangle(edges, fill=accent if stripe % 2 else colour)


def draw_vehicle(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a body with `repeats` windows above two wheels."""
    pen.rounded_rectangle((0, 0, w, h * 0.8), radius=h // 6, fill=colour)
    for window in range(repeats):
        x = w * (window + 0.15) / repeats
        pen.rectangle((x, h * 0.12, x + 0.7 * w / repeats, h * 0.42), fill=accent)
    for x in (w * 0.2, w * 0.8):
        pen.ellipse((x - h * 0.2, h * 0.6, x + h * 0.2, h), fill=TYRE)


def draw_cycle(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw two wheels of radius h * `repeats` / 20, a frame and a handle: bicycle, pushchair."""
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


def draw_tree(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a trunk or a pot under a crown of `repeats` round parts: tree, potted plant."""
    pen.rectangle((w * 0.44, h * 0.4, w * 0.56, h), fill=accent)
    part_width = w * (0.6 if repeats > 1 else 1)
    for part in range(repeats):
        x = (w - w * 0.6) * part / max(1, repeats - 1)
        y = h * 0.15 * (part % 2)
        pen.ellipse((x, y, x + part_width, y + h * 0.6), fill=colour)


def draw_seats(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a row of `repeats` seats with backs: bench, seats in a cabin, table, stall."""
    step = w / repeats
    for seat in range(repeats):
        x = w * seat / repeats
        back = (x + 0.06 * step, 0, x + 0.94 * step, h * 0.6)
        pen.rounded_rectangle(back, radius=h // 8, fill=colour)
        # The two legs.
        pen.rectangle((x + 0.1 * step, h * 0.6, x + 0.2 * step, h), fill=accent)
        pen.rectangle((x + 0.8 * step, h * 0.6, x + 0.9 * step, h), fill=accent)
    pen.rectangle((0, h * 0.55, w, h * 0.72), fill=accent)


def draw_person(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` figures side by side, each a head, a coat and two legs."""
    step = w / repeats
    for figure in range(repeats):
        x = step * figure
        coat = (x + 0.15 * step, h * 0.22, x + 0.85 * step, h * 0.65)
        pen.ellipse((x + 0.3 * step, 0, x + 0.7 * step, h * 0.22), fill=accent)
        pen.rounded_rectangle(coat, radius=w // 8, fill=colour)
        for leg in (0.25, 0.55):
            pen.rectangle((x + leg * step, h * 0.65, x + (leg + 0.2) * step, h), fill=TROUSERS)


def draw_pole(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a pole with `repeats` heads one below the other: street lamp, traffic light."""
    pen.rectangle((w * 0.42, 0, w * 0.58, h), fill=colour)
    size = min(w, h * 0.6 / repeats)
    left = (w - size) / 2
    right = (w + size) / 2
    for head in range(repeats):
        pen.ellipse((left, head * size, right, (head + 1) * size), fill=accent)


def draw_hangers(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a rail from which `repeats` things hang: straps, ceiling lamps, lanterns."""
    pen.rectangle((0, 0, w, h * 0.12), fill=colour)
    size = min(h * 0.5, w * 0.4 / repeats)
    for hanger in range(repeats):
        x = w * (hanger + 0.5) / repeats
        pen.line((x, 0, x, h - size), fill=colour, width=SCALE)
        pen.ellipse((x - size / 1.5, h - 1.3 * size, x + size / 1.5, h), fill=accent)


def draw_steps(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` steps that rise to the right, with a handrail: stairs, escalator."""
    for step in range(repeats):
        left = w * step / repeats
        right = w * (step + 1) / repeats
        top = h * (1 - 0.75 * (step + 1) / repeats)
        pen.rectangle((left, top, right, h), fill=colour)
        pen.rectangle((left, top, right, top + 2 * SCALE), fill=accent)
    # The handrail.
    pen.line((0, h * 0.75, w, 0), fill=accent, width=2 * SCALE)


def draw_track(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw two rails that meet in the distance, over `repeats` sleepers."""
    for sleeper in range(repeats):
        y = h * ((sleeper + 1) / repeats) ** 1.5
        half = w * (0.12 + 0.38 * y / h)
        pen.line((w / 2 - half, y, w / 2 + half, y), fill=accent, width=2 * SCALE)
    for side in (-1, 1):
        far_end = w / 2 + side * w * 0.06
        near_end = w / 2 + side * w * 0.38
        pen.line((far_end, 0, near_end, h), fill=colour, width=2 * SCALE)


def draw_arch(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a wall with `repeats` round openings: tunnel mouth, bridge, arcade."""
    pen.rectangle((0, 0, w, h), fill=colour)
    step = w / repeats
    for opening in range(repeats):
        x = w * opening / repeats
        pen.ellipse((x + 0.1 * step, h * 0.15, x + 0.9 * step, h * 1.6), fill=accent)


def draw_tower(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a body under a pointed roof with `repeats` round faces: clock tower, parasol."""
    pen.polygon([(0, h * 0.3), (w / 2, 0), (w, h * 0.3)], fill=accent)
    pen.rectangle((w * 0.1, h * 0.3, w * 0.9, h), fill=colour)
    for face in range(repeats):
        y = h * (0.38 + 0.2 * face)
        box = (w * 0.3, y, w * 0.7, y + w * 0.4)
        pen.ellipse(box, fill=CLOCK_FACE, outline=accent, width=SCALE)


def draw_animal(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` small animals, each a body, a head and two legs."""
    step = w / repeats
    for animal in range(repeats):
        x = step * animal
        pen.ellipse((x, h * 0.3, x + 0.75 * step, h * 0.75), fill=colour)
        pen.ellipse((x + 0.6 * step, h * 0.05, x + 0.95 * step, h * 0.45), fill=accent)
        for leg in (0.2, 0.5):
            pen.line((x + leg * step, h * 0.7, x + leg * step, h), fill=accent, width=SCALE)


def draw_bag(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw a box with a handle and `repeats` straps: suitcase, shopping bag, bin."""
    pen.arc((w * 0.25, 0, w * 0.75, h * 0.5), 180, 360, fill=accent, width=2 * SCALE)
    pen.rounded_rectangle((0, h * 0.25, w, h), radius=w // 8, fill=colour)
    for strap in range(repeats):
        x = w * (strap + 1) / (repeats + 1)
        pen.line((x, h * 0.25, x, h), fill=accent, width=SCALE)


def draw_disc(pen: Pen, w: int, h: int, colour: Colour, accent: Colour, repeats: int) -> None:
    """Draw `repeats` rings around a centre: button, clock, balloon, pond."""
    for ring in range(repeats):
        inset = 0.5 * ring / repeats
        box = (w * inset, h * inset, w * (1 - inset), h * (1 - inset))
        pen.ellipse(box, fill=accent if ring % 2 else colour)


class Thing(NamedTuple):
    """How an object is drawn: its shape, size, place and motion in pixels of the final picture."""

    draw: Callable[[Pen, int, int, Colour, Colour, int], None]
    width: int
    height: int
    floor: int  # its lower edge, from the top of the picture
    colour: Colour
    accent: Colour
    repeats: int  # how often the shape repeats a part of itself
    speed: float = 0  # per frame


# Shape, width, height, floor, colour, accent, repeats and, where the object moves, speed.
OBJECTS = {
    # in a cabin
    "row of seats": Thing(draw_seats, 92, 34, 95, (40, 70, 190), (25, 25, 60), 3),
    "hanging straps": Thing(draw_hangers, 84, 22, 24, (235, 225, 60), (245, 120, 20), 5),
    "wide window": Thing(draw_grid, 88, 34, 56, (90, 95, 105), (190, 230, 250), 2),
    "grab pole": Thing(draw_pole, 12, 90, 94, (250, 210, 20), (250, 210, 20), 1),
    "ticket machine": Thing(draw_panel, 20, 32, 72, (245, 110, 20), (255, 250, 230), 2),
    "stop button": Thing(draw_disc, 15, 15, 48, (215, 20, 30), (255, 235, 235), 2),
    "window wiper": Thing(draw_steps, 26, 20, 50, (70, 75, 85), (20, 20, 25), 4),
    # under the ground
    "tunnel mouth": Thing(draw_arch, 62, 46, 62, (95, 85, 90), (12, 10, 16), 1),
    "railway track": Thing(draw_track, 94, 32, 96, (215, 215, 225), (60, 40, 30), 7),
    "platform edge": Thing(draw_stripes, 94, 9, 72, (250, 220, 30), (30, 28, 20), 12),
    "tiled wall": Thing(draw_grid, 92, 26, 28, (235, 235, 240), (150, 40, 60), 11),
    "line map": Thing(draw_panel, 36, 24, 46, (250, 250, 250), (200, 20, 120), 3),
    "door button": Thing(draw_disc, 15, 15, 52, (40, 220, 90), (20, 90, 40), 4),
    "platform clock": Thing(draw_disc, 22, 22, 34, (20, 20, 30), (250, 250, 245), 2),
    # in the concourse
    "escalator": Thing(draw_steps, 58, 52, 90, (105, 110, 125), (20, 190, 190), 8),
    "glass roof": Thing(draw_grid, 94, 30, 30, (80, 130, 140), (170, 245, 240), 6),
    "shop front": Thing(draw_arch, 48, 38, 66, (225, 60, 140), (255, 215, 235), 2),
    "ceiling lamps": Thing(draw_hangers, 88, 22, 32, (120, 120, 120), (255, 255, 225), 7),
    "polished floor": Thing(draw_stripes, 94, 18, 96, (225, 215, 195), (185, 165, 215), 7),
    "suitcase": Thing(draw_bag, 20, 26, 92, (20, 110, 120), (10, 30, 40), 2, 0.4),
    "shopping bag": Thing(draw_bag, 18, 24, 88, (250, 130, 190), (120, 20, 80), 0, 0.5),
    # on the plaza
    "facade": Thing(draw_grid, 80, 46, 60, (215, 150, 95), (95, 55, 40), 6),
    "striped awning": Thing(draw_stripes, 64, 20, 62, (220, 40, 40), (250, 245, 235), 9),
    "cobbles": Thing(draw_grid, 94, 24, 96, (75, 65, 70), (200, 170, 130), 8),
    "statue": Thing(draw_person, 22, 46, 80, (90, 150, 125), (70, 125, 105), 1),
    "clock tower": Thing(draw_tower, 30, 70, 70, (190, 120, 75), (130, 45, 35), 1),
    "pigeons": Thing(draw_animal, 44, 13, 92, (110, 115, 135), (60, 60, 80), 4, 0.4),
    "shop sign": Thing(draw_panel, 22, 18, 40, (30, 30, 150), (255, 240, 90), 2),
    # among the green
    "tree": Thing(draw_tree, 48, 64, 78, (40, 140, 45), (95, 65, 35), 3),
    "lawn": Thing(draw_stripes, 94, 26, 96, (95, 185, 60), (80, 165, 50), 9),
    "hedge": Thing(draw_grid, 90, 16, 72, (25, 95, 40), (45, 120, 50), 14),
    "street lamp": Thing(draw_pole, 18, 72, 84, (35, 40, 40), (255, 245, 170), 1),
    "bench": Thing(draw_seats, 46, 24, 90, (165, 95, 35), (70, 45, 25), 2),
    "pond": Thing(draw_disc, 46, 16, 92, (60, 130, 215), (190, 225, 250), 4),
    "traffic light": Thing(draw_pole, 15, 52, 76, (30, 30, 30), (230, 50, 30), 3),
    # now and then, anywhere
    "passer-by": Thing(draw_person, 15, 40, 90, (120, 60, 60), (225, 185, 150), 1, 0.8),
    "group of people": Thing(draw_person, 40, 36, 86, (70, 80, 110), (220, 180, 150), 3, 0.4),
    "child": Thing(draw_person, 11, 24, 90, (240, 190, 40), (230, 190, 160), 1, 0.9),
    "dog": Thing(draw_animal, 22, 16, 92, (130, 85, 45), (100, 60, 30), 1, 1.0),
    "cat": Thing(draw_animal, 16, 12, 92, (40, 40, 40), (60, 60, 60), 1, 0.5),
    "car": Thing(draw_vehicle, 46, 22, 88, (190, 30, 30), (170, 210, 230), 2, 2.0),
    "taxi": Thing(draw_vehicle, 46, 22, 88, (245, 205, 30), (30, 30, 40), 3, 1.8),
    "van": Thing(draw_vehicle, 50, 32, 88, (235, 235, 235), (90, 120, 150), 1, 1.5),
    "lorry": Thing(draw_vehicle, 76, 40, 90, (60, 100, 70), (190, 215, 225), 1, 1.2),
    "motorcycle": Thing(draw_cycle, 30, 22, 90, (160, 20, 20), (20, 20, 20), 6, 2.2),
    "bicycle": Thing(draw_cycle, 32, 22, 90, (30, 60, 140), (30, 30, 30), 5, 1.2),
    "pushchair": Thing(draw_cycle, 20, 22, 90, (110, 50, 130), (50, 50, 50), 4, 0.6),
    "wheelchair": Thing(draw_cycle, 24, 26, 90, (60, 60, 70), (90, 90, 100), 8, 0.5),
    "parasol": Thing(draw_tower, 26, 40, 84, (240, 235, 225), (60, 90, 170), 0),
    "flag": Thing(draw_stripes, 24, 15, 24, (20, 60, 170), (245, 245, 245), 3, 0.1),
    "poster": Thing(draw_panel, 20, 28, 56, (140, 210, 210), (190, 40, 90), 4),
    "vending machine": Thing(draw_grid, 22, 38, 82, (170, 20, 40), (240, 240, 200), 3),
    "litter bin": Thing(draw_bag, 14, 20, 90, (60, 80, 60), (30, 40, 30), 3),
    "bollards": Thing(draw_stripes, 50, 12, 90, (230, 230, 230), (200, 40, 40), 11),
    "flower bed": Thing(draw_hangers, 46, 14, 92, (60, 130, 60), (235, 80, 160), 8),
    "potted plant": Thing(draw_tree, 18, 28, 88, (70, 150, 80), (170, 90, 60), 1),
    "letter box": Thing(draw_panel, 14, 24, 86, (220, 30, 30), (250, 210, 60), 1),
    "phone box": Thing(draw_grid, 16, 38, 84, (190, 20, 30), (200, 220, 230), 2),
    "market stall": Thing(draw_seats, 50, 34, 86, (240, 170, 70), (120, 70, 40), 1),
    "zebra crossing": Thing(draw_stripes, 80, 10, 96, (245, 245, 245), (60, 60, 65), 11),
    "stairs": Thing(draw_steps, 44, 30, 90, (175, 165, 150), (110, 100, 90), 5),
    "bridge": Thing(draw_arch, 90, 24, 60, (150, 130, 110), (190, 215, 235), 4),
    "balloon": Thing(draw_disc, 14, 18, 36, (230, 70, 160), (250, 170, 210), 2, 0.6),
    "aeroplane": Thing(draw_cycle, 30, 10, 16, (240, 240, 245), (180, 190, 200), 2, 1.6),
}
