"""Writes sounds as real WAV files: notes that follow from a seed."""

from __future__ import annotations

import io
import random
import wave
from array import array
from math import pi, sin

RATE = 16_000
_NOTE_SECONDS = 0.25
_LOUDNESS = 8_000


def write_wav(seconds: float, seed: int) -> bytes:
    """Return a mono 16-bit WAV with `RATE` samples per second."""
    samples = array("h", _samples(round(seconds * RATE), random.Random(seed)))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def _samples(count: int, chance: random.Random) -> list[int]:
    length = int(RATE * _NOTE_SECONDS)
    found: list[int] = []
    while len(found) < count:
        step = 2 * pi * chance.choice((220, 262, 294, 330, 392, 440)) / RATE
        # Each note fades, so that one can be told from the next.
        found += (int(_LOUDNESS * (1 - i / length) * sin(step * i)) for i in range(length))
    return found[:count]
