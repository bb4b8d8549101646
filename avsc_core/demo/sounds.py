"""This module makes the sounds of the embedded scenes: 64 events from fourteen small primitives.

In: the names of the events heard in a clip. Out: ten stereo seconds at 8 kHz, (2,T) with T =
80,000, within (-1, 1).

A primitive is a function of a random generator and a few numbers that returns one mono signal (T,).
An event is a primitive with its numbers (EVENTS at the end of the file). The location colours the
mixture by gain, tilt, reverb and ambience, which all its clips share.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

RATE = 8_000  # Hz: enough for events below 4 kHz, and 400 clips stay under 150 MB
SECONDS = 10
T = RATE * SECONDS
TIME = np.arange(T) / RATE  # (T,) in seconds
FREQUENCIES = np.fft.rfftfreq(T, 1 / RATE)  # (T/2+1,) in Hz
PENTATONIC = np.array([0, 2, 4, 7, 9, 12, 14, 16, 19, 21])  # half tones above the base


def mix_events(
    names: Sequence[str], place: np.random.Generator, rng: np.random.Generator
) -> Signal:
    """Mix the events `names` as heard at one location: (2,T).

    `place` is a fresh generator seeded by the location, so that all clips of it have one sound.
    """
    # The location: loudness, dB per octave around 500 Hz, and a reverb for each ear.
    gain = 10 ** (place.uniform(-6, 6) / 20)
    tilt = place.uniform(-1, 1)
    reverb = _draw_reverb(place)  # (2,T)

    ambience = make_noise(rng, place.uniform(50, 200), place.uniform(500, 2000))  # (T,)
    mixture = 0.15 * np.stack([ambience, ambience])  # (2,T)

    # Every event at about the same loudness, panned at constant power and never fully to one side.
    for name in names:
        mono = EVENTS[name](rng)  # (T,)
        level = 10 ** (rng.uniform(-3, 3) / 20) / np.sqrt(np.mean(mono**2))
        angle = rng.uniform(0.25, 0.75) * np.pi / 2
        mixture += level * np.stack([mono * np.cos(angle), mono * np.sin(angle)])

    # A circular convolution lets the reverb's tail wrap to the start: no clip begins in silence.
    colour = 10 ** (tilt * np.log2(np.maximum(FREQUENCIES, 50) / 500) / 20)  # (T/2+1,)
    spectrum = np.fft.rfft(mixture) * np.fft.rfft(reverb) * colour  # (2,T/2+1)
    mixture = np.fft.irfft(spectrum, T)  # (2,T)

    # Scale to a moderate level, and lower where the peak would be clipped.
    mixture *= 0.04 * gain
    return np.asarray(mixture * min(1.0, 0.95 / np.abs(mixture).max()))


def make_noise(rng: np.random.Generator, low: float, high: float, flutter: float = 0) -> Signal:
    """Make steady noise between two frequencies; its loudness changes `flutter` times a second."""
    size = rng.standard_normal(T // 2 + 1)
    phase = np.exp(2j * np.pi * rng.random(T // 2 + 1))
    steady = np.fft.irfft(size * phase * _compute_band(low, high), T)  # (T,)
    if not flutter:
        return steady
    return steady * (0.2 + _draw_curve(rng, flutter))


def make_hum(rng: np.random.Generator, pitch: float, richness: float, wobble: float) -> Signal:
    """Make an engine: a tone of many harmonics whose pitch drifts by the fraction `wobble`."""
    drift = 1 + wobble * (2 * _draw_curve(rng, 0.5) - 1)  # (T,)
    return _make_tone(pitch * drift * rng.uniform(0.95, 1.05), richness)


def make_swells(
    rng: np.random.Generator, low: float, high: float, length: float, count: int
) -> Signal:
    """Make noise that comes and goes: a passing car, a gust, the hiss of a brake."""
    middles = (np.arange(count) + rng.uniform(0.2, 0.8, count)) * SECONDS / count  # (count,)
    distance = (TIME - middles[:, None]) / (length / 2)  # (count,T)
    envelope: Signal = np.exp(-(distance**2)).sum(axis=0)  # (T,)
    return make_noise(rng, low, high) * envelope


def make_knocks(
    rng: np.random.Generator,
    low: float,
    high: float,
    rate: float,
    decay: float = 0.03,
    jitter: float = 0.1,
) -> Signal:
    """Make short strikes of damped noise, `rate` a second.

    With `jitter` 0 the strikes keep time, with 1 they are random.
    """
    strike = np.exp(-np.arange(int(6 * decay * RATE)) / (decay * RATE))
    source = make_noise(rng, low, high)
    return source * _convolve(_draw_pulses(rng, rate, jitter), strike)


def make_calls(
    rng: np.random.Generator, start: float, end: float, length: float, rate: float, richness: float
) -> Signal:
    """Make short glides from one pitch to another: birds, barks, shouts, horns.

    Each call differs a little in pitch.
    """
    size = int(length * RATE)
    glide = np.linspace(start, end, size)
    window = np.hanning(size) ** 0.5
    signal = np.zeros(T + size)
    for onset in np.flatnonzero(_draw_pulses(rng, rate, 1)):
        call = window * _make_tone(glide * rng.uniform(0.92, 1.08), richness)
        signal[onset : onset + size] += call * rng.uniform(0.5, 1)
    return signal[:T]


def make_voices(
    rng: np.random.Generator, pitch: float, low: float, high: float, speakers: int
) -> Signal:
    """Make babble: tones that rise and fall, cut into syllables.

    It is heard through the band of a mouth or a loudspeaker.
    """
    babble = np.zeros(T)
    for _ in range(speakers):
        melody = pitch * rng.uniform(0.7, 1.4) * (0.8 + 0.4 * _draw_curve(rng, 3))  # (T,)
        syllables = np.clip(2 * _draw_curve(rng, 9) - 0.6, 0, None)
        babble += _make_tone(melody, 12) * syllables
    return np.fft.irfft(np.fft.rfft(babble) * _compute_band(low, high), T)


def make_bells(
    rng: np.random.Generator, pitches: Sequence[float], decay: float, rate: float, jitter: float = 0
) -> Signal:
    """Make strikes that ring out: bells, chimes, dishes, keys. The pitches sound together."""
    time = np.arange(int(4 * decay * RATE)) / RATE
    partials = np.sin(2 * np.pi * np.outer(pitches, time))  # (pitches, time)
    strike = partials.sum(axis=0) * np.exp(-time / decay)
    return _convolve(_draw_pulses(rng, rate, jitter), strike)


def make_tune(
    rng: np.random.Generator, base: float, beat: float, richness: float, parts: int = 1
) -> Signal:
    """Make music: a random walk over a pentatonic scale, one note per `beat` seconds.

    With more than one of `parts` it is played in chords.
    """
    scale = base * 2 ** (PENTATONIC / 12)
    step = int(beat * RATE)
    count = T // step + 1
    walk = np.cumsum(rng.integers(-2, 3, count)) + 4
    walk = np.clip(walk, 0, 9)  # (count,) positions on the scale
    pluck: Signal = np.tile(np.exp(-np.arange(step) / step * 2), count)[:T]

    # Each further part follows two steps of the scale below.
    music = np.zeros(T)
    for part in range(parts):
        notes = scale[np.maximum(walk - 2 * part, 0)]  # (count,)
        music += _make_tone(np.repeat(notes, step)[:T], richness)
    return music * pluck


def make_beeps(
    rng: np.random.Generator, pitch: float, length: float, gap: float, richness: float = 0.5
) -> Signal:
    """Make an electronic tone that is switched on and off in time."""
    period = length + gap
    time = TIME + rng.uniform(0, period)
    is_on = time % period < length  # (T,)
    return _make_tone(np.full(T, pitch * rng.uniform(0.98, 1.02)), richness) * is_on


def make_siren(
    rng: np.random.Generator, low: float, high: float, period: float, richness: float = 2
) -> Signal:
    """Make a tone that sweeps between two pitches for ever."""
    sweep = 0.5 + 0.5 * np.sin(2 * np.pi * (TIME / period + rng.random()))
    return _make_tone(low + (high - low) * sweep, richness)


def make_squeal(rng: np.random.Generator, low: float, high: float, rate: float) -> Signal:
    """Make metal on metal: a thin tone that wanders in pitch and fades in and out."""
    pitch = low + (high - low) * _draw_curve(rng, 2 * rate)  # (T,)
    return _make_tone(pitch, 0.3) * _draw_curve(rng, rate) ** 2


def make_chopper(rng: np.random.Generator, low: float, high: float, rate: float) -> Signal:
    """Make noise chopped by something that turns: rotors, mowers, drills."""
    turns = _make_tone(np.full(T, rate * rng.uniform(0.95, 1.05)), 4)
    return make_noise(rng, low, high) * np.clip(turns, 0, None)


def _make_tone(pitch: Signal, richness: float) -> Signal:
    """Make a tone of changing pitch (n,) in Hz; a greater `richness` gives more harmonics."""
    fundamental = np.cos(2 * np.pi * np.cumsum(pitch) / RATE)  # (n,)
    # exp(cos) has all harmonics at once.
    wave: Signal = np.exp(richness * (fundamental - 1))  # (n,)
    wave -= wave.mean()
    return wave


def _draw_curve(rng: np.random.Generator, rate: float) -> Signal:
    """Draw a random curve (T,) within (0, 1) that turns about `rate` times a second."""
    count = max(3, int(rate * SECONDS) + 2)
    return np.interp(np.arange(T), np.linspace(0, T, count), rng.random(count))


def _draw_pulses(rng: np.random.Generator, rate: float, jitter: float) -> Signal:
    """Draw ones at onsets (T,), `rate` a second, each moved by up to half a step times `jitter`."""
    count = max(1, round(rate * SECONDS))
    steps = np.arange(count) + 0.5 + jitter * rng.uniform(-0.5, 0.5, count)
    pulses = np.zeros(T)
    pulses[(steps * T / count).astype(int)] = 1
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
    spectrum = np.fft.rfft(signal, 2 * T) * np.fft.rfft(kernel, 2 * T)  # (T+1,)
    return np.fft.irfft(spectrum, 2 * T)[:T]


def _draw_reverb(place: np.random.Generator) -> Signal:
    """Draw the impulse response of a location, one for each ear: (2,T)."""
    length = place.uniform(0.05, 0.5)  # seconds until the reverb has fallen by 60 dB
    reverb = place.standard_normal((2, T)) * 10 ** (-3 * TIME / length)
    reverb *= place.uniform(0.1, 0.4) / np.linalg.norm(reverb, axis=1, keepdims=True)
    reverb[:, 0] += 1  # the direct sound
    return reverb


# Frequencies and pitches are in Hz, lengths in seconds, rates per second.
EVENTS: dict[str, Callable[[np.random.Generator], Signal]] = {
    # on the road
    "diesel engine": partial(make_hum, pitch=48, richness=20, wobble=0.15),
    "tyre noise": partial(make_noise, low=450, high=750),
    "passing car": partial(make_swells, low=200, high=1200, length=2, count=4),
    "gear whine": partial(make_hum, pitch=310, richness=0.8, wobble=0.25),
    "air brake": partial(make_swells, low=3000, high=3900, length=0.8, count=5),
    "door beep": partial(make_beeps, pitch=1900, length=0.15, gap=0.35),
    "car horn": partial(make_calls, start=420, end=415, length=0.6, rate=0.5, richness=6),
    # on rails
    "rail rumble": partial(make_noise, low=30, high=110),
    "rail joints": partial(make_knocks, low=250, high=600, rate=3.2, decay=0.05),
    "wheel squeal": partial(make_squeal, low=2600, high=3000, rate=2),
    "traction motor": partial(make_siren, low=700, high=1100, period=7, richness=1),
    "carriage rattle": partial(make_knocks, low=1400, high=2000, rate=14, decay=0.01, jitter=0.8),
    "door buzzer": partial(make_beeps, pitch=260, length=0.8, gap=0.6, richness=15),
    "tram bell": partial(make_bells, pitches=(1300, 1740, 2390), decay=0.25, rate=1.5),
    # in the hall
    "ventilation": partial(make_noise, low=150, high=330),
    "announcement chime": partial(make_bells, pitches=(523, 659, 784), decay=0.6, rate=0.6),
    "loudspeaker voice": partial(make_voices, pitch=160, low=900, high=1500, speakers=1),
    "luggage wheels": partial(make_knocks, low=2000, high=2700, rate=9, decay=0.015, jitter=0.3),
    "escalator hum": partial(make_hum, pitch=100, richness=1.5, wobble=0.01),
    "jet rumble": partial(make_swells, low=40, high=400, length=5, count=1),
    "turnstile": partial(make_knocks, low=1200, high=3800, rate=0.7, decay=0.08, jitter=1),
    # in the crowd
    "crowd babble": partial(make_voices, pitch=150, low=250, high=900, speakers=6),
    "footsteps": partial(make_knocks, low=80, high=250, rate=2, decay=0.05),
    "pop music": partial(make_tune, base=220, beat=0.25, richness=3, parts=3),
    "dishes": partial(make_bells, pitches=(2350, 3120, 3710), decay=0.08, rate=3, jitter=1),
    "laughter": partial(make_calls, start=520, end=380, length=0.15, rate=5, richness=5),
    "till beep": partial(make_beeps, pitch=2700, length=0.1, gap=1.1),
    "street guitar": partial(make_tune, base=165, beat=0.35, richness=10),
    # in the open air
    "songbirds": partial(make_calls, start=2500, end=3700, length=0.15, rate=6, richness=0.3),
    "rustling leaves": partial(make_noise, low=1500, high=3500, flutter=3),
    "fountain": partial(make_noise, low=800, high=1500, flutter=12),
    "pigeon cooing": partial(make_calls, start=340, end=290, length=0.5, rate=1.2, richness=1),
    "children playing": partial(make_calls, start=900, end=1250, length=0.4, rate=2, richness=3),
    "duck quack": partial(make_calls, start=620, end=480, length=0.15, rate=2, richness=15),
    "church bell": partial(make_bells, pitches=(196, 392, 466, 588, 784), decay=1.2, rate=0.6),
    # now and then, anywhere
    "siren": partial(make_siren, low=600, high=1400, period=2.5),
    "dog bark": partial(make_calls, start=500, end=300, length=0.14, rate=1.6, richness=12),
    "cough": partial(make_knocks, low=400, high=1600, rate=0.6, decay=0.12, jitter=1),
    "whistle": partial(make_calls, start=1500, end=2100, length=0.5, rate=0.6, richness=0.2),
    "phone ringing": partial(make_siren, low=1700, high=2100, period=0.12, richness=0.6),
    "bicycle bell": partial(make_bells, pitches=(2900, 3300), decay=0.2, rate=0.8, jitter=1),
    "motorcycle": partial(make_hum, pitch=95, richness=30, wobble=0.5),
    "lorry": partial(make_hum, pitch=33, richness=40, wobble=0.1),
    "reversing beeper": partial(make_beeps, pitch=1150, length=0.5, gap=0.5),
    "helicopter": partial(make_chopper, low=60, high=500, rate=13),
    "propeller plane": partial(make_hum, pitch=140, richness=8, wobble=0.03),
    "thunder": partial(make_swells, low=25, high=140, length=3, count=2),
    "rain": partial(make_knocks, low=1800, high=3900, rate=120, decay=0.004, jitter=1),
    "wind gusts": partial(make_swells, low=100, high=500, length=2.5, count=3),
    "hammering": partial(make_knocks, low=600, high=1400, rate=1.8, decay=0.06),
    "drill": partial(make_chopper, low=1200, high=3000, rate=45),
    "lawn mower": partial(make_chopper, low=150, high=1000, rate=60),
    "applause": partial(make_knocks, low=900, high=2600, rate=60, decay=0.012, jitter=1),
    "baby crying": partial(make_calls, start=480, end=600, length=0.9, rate=0.8, richness=9),
    "keys jingling": partial(make_bells, pitches=(3050, 3460, 3880), decay=0.04, rate=7, jitter=1),
    "rustling paper": partial(make_knocks, low=2500, high=3900, rate=6, decay=0.05, jitter=1),
    "door slam": partial(make_knocks, low=50, high=400, rate=0.3, decay=0.15, jitter=1),
    "crow": partial(make_calls, start=1050, end=850, length=0.4, rate=0.9, richness=20),
    "gull": partial(make_calls, start=1900, end=1200, length=0.45, rate=0.9, richness=4),
    "crickets": partial(make_beeps, pitch=3600, length=0.04, gap=0.06),
    "accordion": partial(make_tune, base=294, beat=0.6, richness=14, parts=2),
    "drum": partial(make_bells, pitches=(70, 95, 128), decay=0.1, rate=2.5),
    "car alarm": partial(make_siren, low=900, high=2200, period=0.5),
    "skateboard": partial(make_chopper, low=300, high=1800, rate=24),
}
