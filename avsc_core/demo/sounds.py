"""The sounds of the embedded scenes: 64 events, each synthesised from fourteen small primitives.

In: the names of the events heard in a clip. Out: ten stereo seconds at 8 kHz, (2,T) with T = 80,000, within (-1, 1).
A primitive is a function of a random generator and a few numbers that returns one mono signal (T,); an event is a
primitive with its numbers (EVENTS at the end of the file). The place colours the mixture: gain, tilt, reverb, ambience.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
RATE = 8_000  # samples per second: enough for events below 4 kHz, and 400 clips stay under 150 MB
SECONDS = 10
T = RATE * SECONDS
TIME = np.arange(T) / RATE  # (T,) in seconds
FREQUENCIES = np.fft.rfftfreq(T, 1 / RATE)  # (T/2+1,) in Hz


def mix_events(
    names: Sequence[str], place: np.random.Generator, rng: np.random.Generator
) -> Signal:
    """Mix events as heard at one place; a fresh generator seeded by the place gives all its clips the same colour."""
    gain = 10 ** (place.uniform(-6, 6) / 20)
    tilt = place.uniform(-1, 1)  # dB per octave around 500 Hz
    length = place.uniform(0.05, 0.5)  # seconds until the reverb has fallen by 60 dB
    reverb = place.standard_normal((2, T)) * 10 ** (-3 * TIME / length)  # (2,T)
    reverb *= place.uniform(0.1, 0.4) / np.linalg.norm(reverb, axis=1, keepdims=True)
    reverb[:, 0] += 1  # the direct sound
    mixture = 0.15 * np.stack(
        [noise(rng, place.uniform(50, 200), place.uniform(500, 2000))] * 2
    )  # ambience
    for name in names:
        event = EVENTS[name]
        mono = event.make(rng, **event.numbers)  # (T,)
        level = 10 ** (rng.uniform(-3, 3) / 20) / np.sqrt(np.mean(mono**2))
        angle = (
            rng.uniform(0.25, 0.75) * np.pi / 2
        )  # constant-power panning, never fully to one side
        mixture += level * np.stack([mono * np.cos(angle), mono * np.sin(angle)])
    # A circular convolution lets the tail of the reverb wrap to the start: no clip begins in a dead room.
    colour = 10 ** (tilt * np.log2(np.maximum(FREQUENCIES, 50) / 500) / 20)  # (T/2+1,)
    mixture = np.fft.irfft(np.fft.rfft(mixture) * np.fft.rfft(reverb) * colour, T)  # (2,T)
    mixture *= 0.04 * gain
    return np.asarray(mixture * min(1.0, 0.95 / np.abs(mixture).max()))


def noise(rng: np.random.Generator, low: float, high: float, flutter: float = 0) -> Signal:
    """Steady noise between two frequencies; `flutter` is how often a second its loudness changes."""
    spectrum = rng.standard_normal(T // 2 + 1) * np.exp(2j * np.pi * rng.random(T // 2 + 1))
    steady = np.fft.irfft(spectrum * _band(low, high), T)  # (T,)
    return steady * (0.2 + _wander(rng, flutter)) if flutter else steady


def hum(rng: np.random.Generator, pitch: float, richness: float, wobble: float) -> Signal:
    """An engine: a tone of many harmonics whose pitch drifts by the fraction `wobble`."""
    return _tone(
        pitch * (1 + wobble * (2 * _wander(rng, 0.5) - 1)) * rng.uniform(0.95, 1.05), richness
    )


def swells(rng: np.random.Generator, low: float, high: float, length: float, count: int) -> Signal:
    """Noise that comes and goes: a passing car, a gust, the hiss of a brake."""
    middles = (np.arange(count) + rng.uniform(0.2, 0.8, count)) * SECONDS / count
    envelope: Signal = np.exp(-(((TIME - middles[:, None]) / (length / 2)) ** 2)).sum(
        axis=0
    )  # (T,)
    return noise(rng, low, high) * envelope


def knocks(
    rng: np.random.Generator,
    low: float,
    high: float,
    rate: float,
    decay: float = 0.03,
    jitter: float = 0.1,
) -> Signal:
    """Short strikes of damped noise, `rate` a second; with `jitter` 0 they keep time, with 1 they are random."""
    strike = np.exp(-np.arange(int(6 * decay * RATE)) / (decay * RATE))
    source = noise(rng, low, high)
    return source * _convolve(_pulses(rng, rate, jitter), strike)


def calls(
    rng: np.random.Generator, start: float, end: float, length: float, rate: float, richness: float
) -> Signal:
    """Short glides from one pitch to another: birds, barks, shouts, horns. Each call differs a little in pitch."""
    size = int(length * RATE)
    glide = np.linspace(start, end, size)
    window = np.hanning(size) ** 0.5
    signal = np.zeros(T + size)
    for onset in np.flatnonzero(_pulses(rng, rate, 1)):
        signal[onset : onset + size] += (
            window * _tone(glide * rng.uniform(0.92, 1.08), richness) * rng.uniform(0.5, 1)
        )
    return signal[:T]


def voices(
    rng: np.random.Generator, pitch: float, low: float, high: float, speakers: int
) -> Signal:
    """Babble: tones that rise and fall, cut into syllables and heard through the band of a mouth or a loudspeaker."""
    babble = np.zeros(T)
    for _ in range(speakers):
        melody = pitch * rng.uniform(0.7, 1.4) * (0.8 + 0.4 * _wander(rng, 3))  # (T,)
        syllables = np.clip(2 * _wander(rng, 9) - 0.6, 0, None)
        babble += _tone(melody, 12) * syllables
    return np.fft.irfft(np.fft.rfft(babble) * _band(low, high), T)


def bells(
    rng: np.random.Generator, pitches: Sequence[float], decay: float, rate: float, jitter: float = 0
) -> Signal:
    """Strikes of partials that ring out: bells, chimes, dishes, keys. The pitches sound together."""
    time = np.arange(int(4 * decay * RATE)) / RATE
    strike = np.sin(2 * np.pi * np.outer(pitches, time)).sum(axis=0) * np.exp(-time / decay)
    return _convolve(_pulses(rng, rate, jitter), strike)


def tune(
    rng: np.random.Generator, base: float, beat: float, richness: float, parts: int = 1
) -> Signal:
    """Music: a random walk over a pentatonic scale, one note per `beat` seconds, with chords when `parts` > 1."""
    scale = base * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16, 19, 21]) / 12)
    step = int(beat * RATE)
    count = T // step + 1
    walk = np.clip(
        np.cumsum(rng.integers(-2, 3, count)) + 4, 0, 9
    )  # (count,) positions on the scale
    pluck: Signal = np.tile(np.exp(-np.arange(step) / step * 2), count)[:T]
    music = np.zeros(T)
    for part in range(parts):  # the other parts follow two steps of the scale below
        notes = scale[np.maximum(walk - 2 * part, 0)]  # (count,)
        music += _tone(np.repeat(notes, step)[:T], richness)
    return music * pluck


def beeps(
    rng: np.random.Generator, pitch: float, length: float, gap: float, richness: float = 0.5
) -> Signal:
    """An electronic tone switched on and off in time."""
    time = TIME + rng.uniform(0, length + gap)
    return _tone(np.full(T, pitch * rng.uniform(0.98, 1.02)), richness) * (
        time % (length + gap) < length
    )


def siren(
    rng: np.random.Generator, low: float, high: float, period: float, richness: float = 2
) -> Signal:
    """A tone that sweeps between two pitches for ever."""
    sweep = 0.5 + 0.5 * np.sin(2 * np.pi * (TIME / period + rng.random()))
    return _tone(low + (high - low) * sweep, richness)


def squeal(rng: np.random.Generator, low: float, high: float, rate: float) -> Signal:
    """Metal on metal: a thin tone that wanders in pitch and fades in and out."""
    return _tone(low + (high - low) * _wander(rng, 2 * rate), 0.3) * _wander(rng, rate) ** 2


def chopper(rng: np.random.Generator, low: float, high: float, rate: float) -> Signal:
    """Noise chopped by something that turns: rotors, mowers, drills."""
    turns = _tone(np.full(T, rate * rng.uniform(0.95, 1.05)), 4)
    return noise(rng, low, high) * np.clip(turns, 0, None)


def _tone(pitch: Signal, richness: float) -> Signal:
    """A tone of changing pitch (n,) in Hz; exp(cos) has all harmonics at once, more of them the greater `richness`."""
    wave: Signal = np.exp(richness * (np.cos(2 * np.pi * np.cumsum(pitch) / RATE) - 1))  # (n,)
    wave -= wave.mean()
    return wave


def _wander(rng: np.random.Generator, rate: float) -> Signal:
    """A smooth random curve (T,) within (0, 1) that turns about `rate` times a second."""
    count = max(3, int(rate * SECONDS) + 2)
    return np.interp(np.arange(T), np.linspace(0, T, count), rng.random(count))


def _pulses(rng: np.random.Generator, rate: float, jitter: float) -> Signal:
    """Ones at the onsets (T,), `rate` a second, each moved by up to half a step when `jitter` is 1."""
    count = max(1, round(rate * SECONDS))
    steps = np.arange(count) + 0.5 + jitter * rng.uniform(-0.5, 0.5, count)
    pulses = np.zeros(T)
    pulses[(steps * T / count).astype(int)] = 1
    return pulses


def _band(low: float, high: float) -> Signal:
    """Gains of a band-pass (T/2+1,) over FREQUENCIES with slopes of 24 dB per octave."""
    frequencies = np.maximum(FREQUENCIES, 1)
    gains: Signal = 1 / np.sqrt((1 + (low / frequencies) ** 8) * (1 + (frequencies / high) ** 8))
    return gains


def _convolve(signal: Signal, kernel: Signal) -> Signal:
    """The signal (T,) with a copy of the kernel, at most T long, at every pulse; what rings beyond the end is cut."""
    return np.fft.irfft(np.fft.rfft(signal, 2 * T) * np.fft.rfft(kernel, 2 * T), 2 * T)[:T]


class Event(NamedTuple):
    """A primitive and the numbers to call it with."""

    make: Callable[..., Signal]
    numbers: dict[str, Any]


EVENTS = {
    # on the road
    "diesel engine": Event(hum, {"pitch": 48, "richness": 20, "wobble": 0.15}),
    "tyre noise": Event(noise, {"low": 450, "high": 750}),
    "passing car": Event(swells, {"low": 200, "high": 1200, "length": 2, "count": 4}),
    "gear whine": Event(hum, {"pitch": 310, "richness": 0.8, "wobble": 0.25}),
    "air brake": Event(swells, {"low": 3000, "high": 3900, "length": 0.8, "count": 5}),
    "door beep": Event(beeps, {"pitch": 1900, "length": 0.15, "gap": 0.35}),
    "car horn": Event(calls, {"start": 420, "end": 415, "length": 0.6, "rate": 0.5, "richness": 6}),
    # on rails
    "rail rumble": Event(noise, {"low": 30, "high": 110}),
    "rail joints": Event(knocks, {"low": 250, "high": 600, "rate": 3.2, "decay": 0.05}),
    "wheel squeal": Event(squeal, {"low": 2600, "high": 3000, "rate": 2}),
    "traction motor": Event(siren, {"low": 700, "high": 1100, "period": 7, "richness": 1}),
    "carriage rattle": Event(
        knocks, {"low": 1400, "high": 2000, "rate": 14, "decay": 0.01, "jitter": 0.8}
    ),
    "door buzzer": Event(beeps, {"pitch": 260, "length": 0.8, "gap": 0.6, "richness": 15}),
    "tram bell": Event(bells, {"pitches": (1300, 1740, 2390), "decay": 0.25, "rate": 1.5}),
    # in the hall
    "ventilation": Event(noise, {"low": 150, "high": 330}),
    "announcement chime": Event(bells, {"pitches": (523, 659, 784), "decay": 0.6, "rate": 0.6}),
    "loudspeaker voice": Event(voices, {"pitch": 160, "low": 900, "high": 1500, "speakers": 1}),
    "luggage wheels": Event(
        knocks, {"low": 2000, "high": 2700, "rate": 9, "decay": 0.015, "jitter": 0.3}
    ),
    "escalator hum": Event(hum, {"pitch": 100, "richness": 1.5, "wobble": 0.01}),
    "jet rumble": Event(swells, {"low": 40, "high": 400, "length": 5, "count": 1}),
    "turnstile": Event(
        knocks, {"low": 1200, "high": 3800, "rate": 0.7, "decay": 0.08, "jitter": 1}
    ),
    # in the crowd
    "crowd babble": Event(voices, {"pitch": 150, "low": 250, "high": 900, "speakers": 6}),
    "footsteps": Event(knocks, {"low": 80, "high": 250, "rate": 2, "decay": 0.05}),
    "pop music": Event(tune, {"base": 220, "beat": 0.25, "richness": 3, "parts": 3}),
    "dishes": Event(bells, {"pitches": (2350, 3120, 3710), "decay": 0.08, "rate": 3, "jitter": 1}),
    "laughter": Event(calls, {"start": 520, "end": 380, "length": 0.15, "rate": 5, "richness": 5}),
    "till beep": Event(beeps, {"pitch": 2700, "length": 0.1, "gap": 1.1}),
    "street guitar": Event(tune, {"base": 165, "beat": 0.35, "richness": 10}),
    # in the open air
    "songbirds": Event(
        calls, {"start": 2500, "end": 3700, "length": 0.15, "rate": 6, "richness": 0.3}
    ),
    "rustling leaves": Event(noise, {"low": 1500, "high": 3500, "flutter": 3}),
    "fountain": Event(noise, {"low": 800, "high": 1500, "flutter": 12}),
    "pigeon cooing": Event(
        calls, {"start": 340, "end": 290, "length": 0.5, "rate": 1.2, "richness": 1}
    ),
    "children playing": Event(
        calls, {"start": 900, "end": 1250, "length": 0.4, "rate": 2, "richness": 3}
    ),
    "duck quack": Event(
        calls, {"start": 620, "end": 480, "length": 0.15, "rate": 2, "richness": 15}
    ),
    "church bell": Event(bells, {"pitches": (196, 392, 466, 588, 784), "decay": 1.2, "rate": 0.6}),
    # now and then, anywhere
    "siren": Event(siren, {"low": 600, "high": 1400, "period": 2.5}),
    "dog bark": Event(
        calls, {"start": 500, "end": 300, "length": 0.14, "rate": 1.6, "richness": 12}
    ),
    "cough": Event(knocks, {"low": 400, "high": 1600, "rate": 0.6, "decay": 0.12, "jitter": 1}),
    "whistle": Event(
        calls, {"start": 1500, "end": 2100, "length": 0.5, "rate": 0.6, "richness": 0.2}
    ),
    "phone ringing": Event(siren, {"low": 1700, "high": 2100, "period": 0.12, "richness": 0.6}),
    "bicycle bell": Event(bells, {"pitches": (2900, 3300), "decay": 0.2, "rate": 0.8, "jitter": 1}),
    "motorcycle": Event(hum, {"pitch": 95, "richness": 30, "wobble": 0.5}),
    "lorry": Event(hum, {"pitch": 33, "richness": 40, "wobble": 0.1}),
    "reversing beeper": Event(beeps, {"pitch": 1150, "length": 0.5, "gap": 0.5}),
    "helicopter": Event(chopper, {"low": 60, "high": 500, "rate": 13}),
    "propeller plane": Event(hum, {"pitch": 140, "richness": 8, "wobble": 0.03}),
    "thunder": Event(swells, {"low": 25, "high": 140, "length": 3, "count": 2}),
    "rain": Event(knocks, {"low": 1800, "high": 3900, "rate": 120, "decay": 0.004, "jitter": 1}),
    "wind gusts": Event(swells, {"low": 100, "high": 500, "length": 2.5, "count": 3}),
    "hammering": Event(knocks, {"low": 600, "high": 1400, "rate": 1.8, "decay": 0.06}),
    "drill": Event(chopper, {"low": 1200, "high": 3000, "rate": 45}),
    "lawn mower": Event(chopper, {"low": 150, "high": 1000, "rate": 60}),
    "applause": Event(knocks, {"low": 900, "high": 2600, "rate": 60, "decay": 0.012, "jitter": 1}),
    "baby crying": Event(
        calls, {"start": 480, "end": 600, "length": 0.9, "rate": 0.8, "richness": 9}
    ),
    "keys jingling": Event(
        bells, {"pitches": (3050, 3460, 3880), "decay": 0.04, "rate": 7, "jitter": 1}
    ),
    "rustling paper": Event(
        knocks, {"low": 2500, "high": 3900, "rate": 6, "decay": 0.05, "jitter": 1}
    ),
    "door slam": Event(knocks, {"low": 50, "high": 400, "rate": 0.3, "decay": 0.15, "jitter": 1}),
    "crow": Event(calls, {"start": 1050, "end": 850, "length": 0.4, "rate": 0.9, "richness": 20}),
    "gull": Event(calls, {"start": 1900, "end": 1200, "length": 0.45, "rate": 0.9, "richness": 4}),
    "crickets": Event(beeps, {"pitch": 3600, "length": 0.04, "gap": 0.06}),
    "accordion": Event(tune, {"base": 294, "beat": 0.6, "richness": 14, "parts": 2}),
    "drum": Event(bells, {"pitches": (70, 95, 128), "decay": 0.1, "rate": 2.5}),
    "car alarm": Event(siren, {"low": 900, "high": 2200, "period": 0.5}),
    "skateboard": Event(chopper, {"low": 300, "high": 1800, "rate": 24}),
}
