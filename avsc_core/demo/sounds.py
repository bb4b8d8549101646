"""This module makes the sounds of the embedded scenes: 64 events from twelve small primitives.

In: the names of the events heard in a clip. Out: ten stereo seconds at 8 kHz, (2,T) with T =
80,000, within (-1, 1).

A primitive is a function of a random generator and a few numbers that returns one mono signal (T,);
SOUNDS, at the end of the file, names them. An event is a primitive with its numbers: a line of
events.yaml. The location colours the mixture by gain, tilt, reverb and ambience, which all its
clips share.

Frequencies and pitches are in Hz, lengths in seconds, rates per second.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from avsc_core.yaml_file import read_yaml

Signal = NDArray[np.float64]

RATE = 8_000  # Hz: enough for events below 4 kHz, and 400 clips stay under 150 MB
SECONDS = 10
T = RATE * SECONDS
TIME = np.arange(T) / RATE  # (T,) in seconds
FREQUENCIES = np.fft.rfftfreq(T, 1 / RATE)  # (T/2+1,) in Hz
PENTATONIC = np.array([0, 2, 4, 7, 9, 12, 14, 16, 19, 21])  # half tones above the base


@cache
def read_events() -> dict[str, partial[Signal]]:
    """Read the 64 events by name, in the order of the labels: generator -> mono signal (T,)."""
    rows = read_yaml(Path(__file__).with_name("events.yaml")).data
    events = {}
    for name, settings in rows.items():
        make = SOUNDS[settings.pop("sound")]
        events[name] = partial(make, **settings)
    return events


def mix_events(names: Sequence[str], place: Generator, rng: Generator) -> Signal:
    """Mix the events `names` as heard at one location: (2,T).

    `place` is a fresh generator seeded by the location, so that all clips of it have one sound.
    """
    # The location: loudness in dB, dB per octave around 500 Hz, and a reverb for each ear.
    loudness = place.uniform(-6, 6)
    tilt = place.uniform(-1, 1)
    reverb = _draw_reverb(place)  # (2,T)

    # The ambience: the same noise in both ears.
    low = place.uniform(50, 200)
    high = place.uniform(500, 2000)
    ambience = make_noise(rng, low, high)  # (T,)
    mixture = 0.15 * np.stack([ambience, ambience])  # (2,T)

    # Every event at about the same loudness, panned at constant power and never fully to one side.
    events = read_events()
    for name in names:
        mono = events[name](rng)  # (T,)
        mean_level = np.sqrt(np.mean(mono**2))
        level = 10 ** (rng.uniform(-3, 3) / 20) / mean_level
        angle = rng.uniform(0.25, 0.75) * np.pi / 2
        left = mono * np.cos(angle)
        right = mono * np.sin(angle)
        mixture += level * np.stack([left, right])

    # A circular convolution lets the reverb's tail wrap to the start: no clip begins in silence.
    octaves = np.log2(np.maximum(FREQUENCIES, 50) / 500)  # (T/2+1,)
    colour = 10 ** (tilt * octaves / 20)  # (T/2+1,)
    spectrum = np.fft.rfft(mixture) * np.fft.rfft(reverb) * colour  # (2,T/2+1)
    mixture = np.fft.irfft(spectrum, T)  # (2,T)

    # Scale to a moderate level, and lower where the peak would be clipped.
    mixture *= 0.04 * 10 ** (loudness / 20)
    peak = np.abs(mixture).max()
    return np.asarray(mixture * min(1.0, 0.95 / peak))


def make_noise(
    rng: Generator,
    low: float,
    high: float,
    flutter: float = 0,  # changes of loudness a second; 0 is steady
) -> Signal:
    """Make noise between two frequencies, steady or with a changing loudness."""
    size = rng.standard_normal(len(FREQUENCIES))
    phase = np.exp(2j * np.pi * rng.random(len(FREQUENCIES)))
    spectrum = size * phase * _compute_band(low, high)  # (T/2+1,)
    steady = np.fft.irfft(spectrum, T)  # (T,)
    if not flutter:
        return steady

    return steady * (0.2 + _draw_curve(rng, flutter))


def make_hum(
    rng: Generator,
    pitch: float,
    richness: float,
    wobble: float,  # the fraction by which the pitch drifts
) -> Signal:
    """Make an engine: a tone of many harmonics whose pitch drifts."""
    curve = 2 * _draw_curve(rng, 0.5) - 1  # (T,) within (-1, 1)
    drift = 1 + wobble * curve
    pitches = pitch * drift * rng.uniform(0.95, 1.05)  # (T,)
    return _make_tone(pitches, richness)


def make_swells(
    rng: Generator,
    low: float,
    high: float,
    length: float,  # of one swell
    count: int,  # of swells in the clip
) -> Signal:
    """Make noise that comes and goes: a passing car, a gust, the hiss of a brake."""
    # Each swell has a share of the clip to itself, and its middle somewhere in it.
    steps = np.arange(count) + rng.uniform(0.2, 0.8, count)
    middles = steps * SECONDS / count  # (count,) in seconds
    distance = (TIME - middles[:, None]) / (length / 2)  # (count,T)
    envelope: Signal = np.exp(-(distance**2)).sum(axis=0)  # (T,)
    return make_noise(rng, low, high) * envelope


def make_knocks(
    rng: Generator,
    low: float,
    high: float,
    rate: float,
    decay: float = 0.03,  # until a strike has fallen to 1/e
    jitter: float = 0.1,  # 0: the strikes keep time; 1: they are random
) -> Signal:
    """Make short strikes of damped noise, `rate` a second."""
    samples = np.arange(int(6 * decay * RATE))
    strike = np.exp(-samples / (decay * RATE))
    source = make_noise(rng, low, high)  # (T,)
    pulses = _draw_pulses(rng, rate, jitter)  # (T,)
    return source * _convolve(pulses, strike)


def make_calls(
    rng: Generator,
    start: float,  # pitches of a call
    end: float,
    length: float,  # of a call
    rate: float,
    richness: float,
) -> Signal:
    """Make short glides from one pitch to another: birds, barks, shouts, horns.

    Each call differs a little in pitch.
    """
    size = int(length * RATE)
    glide = np.linspace(start, end, size)
    window = np.hanning(size) ** 0.5

    signal = np.zeros(T + size)  # the last call may not fit as a whole
    onsets = np.flatnonzero(_draw_pulses(rng, rate, 1))
    for onset in onsets:
        pitch = glide * rng.uniform(0.92, 1.08)
        call = window * _make_tone(pitch, richness)
        signal[onset : onset + size] += call * rng.uniform(0.5, 1)
    return signal[:T]


def make_voices(
    rng: Generator,
    pitch: float,
    low: float,  # the band of a mouth or a loudspeaker
    high: float,
    speakers: int,
) -> Signal:
    """Make babble: tones that rise and fall, cut into syllables, and band-passed."""
    babble = np.zeros(T)
    for _ in range(speakers):
        voice = pitch * rng.uniform(0.7, 1.4)
        melody = voice * (0.8 + 0.4 * _draw_curve(rng, 3))  # (T,)
        syllables = np.clip(2 * _draw_curve(rng, 9) - 0.6, 0, None)
        babble += _make_tone(melody, 12) * syllables

    spectrum = np.fft.rfft(babble) * _compute_band(low, high)  # (T/2+1,)
    return np.fft.irfft(spectrum, T)


def make_bells(
    rng: Generator,
    pitches: Sequence[float],  # sound together
    decay: float,  # until a strike has fallen to 1/e
    rate: float,
    jitter: float = 0,  # as in make_knocks
) -> Signal:
    """Make strikes that ring out: bells, chimes, dishes, keys."""
    time = np.arange(int(4 * decay * RATE)) / RATE
    partials = np.sin(2 * np.pi * np.outer(pitches, time))  # (pitches, time)
    strike = partials.sum(axis=0) * np.exp(-time / decay)
    pulses = _draw_pulses(rng, rate, jitter)  # (T,)
    return _convolve(pulses, strike)


def make_tune(
    rng: Generator,
    base: float,  # the pitch of the lowest note
    beat: float,  # seconds of a note
    richness: float,
    parts: int = 1,  # more than one make chords
) -> Signal:
    """Make music: a random walk over a pentatonic scale, one note per beat."""
    step = int(beat * RATE)  # samples of a note
    count = T // step + 1

    # The melody.
    scale = base * 2 ** (PENTATONIC / 12)
    walk = np.cumsum(rng.integers(-2, 3, count)) + 4
    walk = np.clip(walk, 0, 9)  # (count,) positions on the scale

    # Each further part follows two steps of the scale below.
    music = np.zeros(T)
    for part in range(parts):
        notes = scale[np.maximum(walk - 2 * part, 0)]  # (count,)
        pitch = np.repeat(notes, step)[:T]  # (T,)
        music += _make_tone(pitch, richness)

    # Every note is plucked, and fades until the next one.
    pluck = np.exp(-np.arange(step) / step * 2)  # (step,)
    envelope: Signal = np.tile(pluck, count)[:T]
    return music * envelope


def make_beeps(
    rng: Generator,
    pitch: float,
    length: float,
    gap: float,  # until the next beep
    richness: float = 0.5,
) -> Signal:
    """Make an electronic tone that is switched on and off in time."""
    period = length + gap
    time = TIME + rng.uniform(0, period)
    is_on = time % period < length  # (T,)
    pitches = np.full(T, pitch * rng.uniform(0.98, 1.02))
    return _make_tone(pitches, richness) * is_on


def make_siren(
    rng: Generator,
    low: float,
    high: float,
    period: float,  # seconds of a sweep up and down
    richness: float = 2,
) -> Signal:
    """Make a tone that sweeps up and down between two pitches."""
    periods = TIME / period + rng.random()  # (T,)
    sweep = 0.5 + 0.5 * np.sin(2 * np.pi * periods)  # (T,) within (0, 1)
    return _make_tone(low + (high - low) * sweep, richness)


def make_squeal(
    rng: Generator,
    low: float,
    high: float,
    rate: float,
) -> Signal:
    """Make metal on metal: a thin tone that wanders in pitch and fades in and out."""
    pitch = low + (high - low) * _draw_curve(rng, 2 * rate)  # (T,)
    loudness = _draw_curve(rng, rate) ** 2  # (T,)
    return _make_tone(pitch, 0.3) * loudness


def make_chopper(
    rng: Generator,
    low: float,
    high: float,
    rate: float,  # turns a second
) -> Signal:
    """Make noise chopped by something that turns: rotors, mowers, drills."""
    rates = np.full(T, rate * rng.uniform(0.95, 1.05))
    turns = _make_tone(rates, 4)  # (T,)
    return make_noise(rng, low, high) * np.clip(turns, 0, None)


def _make_tone(pitch: Signal, richness: float) -> Signal:
    """Make a tone of changing pitch (n,) in Hz; a greater `richness` gives more harmonics."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE  # (n,)
    fundamental = np.cos(phase)

    # exp(cos) has all harmonics at once.
    wave: Signal = np.exp(richness * (fundamental - 1))  # (n,)
    wave -= wave.mean()
    return wave


def _draw_curve(rng: Generator, rate: float) -> Signal:
    """Draw a random curve (T,) within (0, 1) that turns about `rate` times a second."""
    count = max(3, int(rate * SECONDS) + 2)
    positions = np.linspace(0, T, count)
    return np.interp(np.arange(T), positions, rng.random(count))


def _draw_pulses(rng: Generator, rate: float, jitter: float) -> Signal:
    """Draw ones at onsets (T,), `rate` a second, each moved by up to half a step times `jitter`."""
    count = max(1, round(rate * SECONDS))
    shifts = jitter * rng.uniform(-0.5, 0.5, count)
    steps = np.arange(count) + 0.5 + shifts
    onsets = (steps * T / count).astype(int)

    pulses = np.zeros(T)
    pulses[onsets] = 1
    return pulses


def _compute_band(low: float, high: float) -> Signal:
    """Compute a band-pass, gains (T/2+1,) over FREQUENCIES with slopes of 24 dB per octave."""
    frequencies = np.maximum(FREQUENCIES, 1)
    below = 1 + (low / frequencies) ** 8
    above = 1 + (frequencies / high) ** 8
    gains: Signal = 1 / np.sqrt(below * above)
    return gains


def _convolve(signal: Signal, kernel: Signal) -> Signal:
    """Put a copy of the kernel, at most T long, at every pulse of (T,), and cut it at T."""
    # A transform of twice the length, or the end of the result would wrap to its start.
    spectrum = np.fft.rfft(signal, 2 * T) * np.fft.rfft(kernel, 2 * T)  # (T+1,)
    return np.fft.irfft(spectrum, 2 * T)[:T]


def _draw_reverb(place: Generator) -> Signal:
    """Draw the impulse response of a location, one for each ear: (2,T)."""
    length = place.uniform(0.05, 0.5)  # seconds until the reverb has fallen by 60 dB
    noise = place.standard_normal((2, T))
    reverb = noise * 10 ** (-3 * TIME / length)

    # The tail is weaker than the direct sound, which comes first.
    norm = np.linalg.norm(reverb, axis=1, keepdims=True)  # (2,1)
    reverb *= place.uniform(0.1, 0.4) / norm
    reverb[:, 0] += 1
    return reverb


SOUNDS: dict[str, Callable[..., Signal]] = {
    "beeps": make_beeps,
    "bells": make_bells,
    "calls": make_calls,
    "chopper": make_chopper,
    "hum": make_hum,
    "knocks": make_knocks,
    "noise": make_noise,
    "siren": make_siren,
    "squeal": make_squeal,
    "swells": make_swells,
    "tune": make_tune,
    "voices": make_voices,
}
