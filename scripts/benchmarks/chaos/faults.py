"""What goes wrong at Replicate while the flows run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from prefect_replicate.emulator.faults import FaultKind, FaultPlan


class _Weather(NamedTuple):
    """The share of some requests that meets each fault."""

    method: str
    path: str
    rates: Mapping[FaultKind, float]
    options: Mapping[str, Any] = {}


_CREATE = ("POST", r"/predictions$")
_LOOK = ("GET", r"/predictions/[^/]+$")
_LIST = ("GET", r"/predictions$")
_CANCEL = ("POST", r"/cancel$")
_MODEL = ("GET", r"/models/")
_FILE = ("GET", r"\.bin$")

_ALL = (
    _Weather(*_CREATE, {"delay": 0.10, "late_reply": 0.10}, {"seconds": 1.5}),
    _Weather(
        *_CREATE,
        {
            "lost_reply": 0.05,
            "error_page": 0.03,
            "error_text": 0.03,
            "html": 0.02,
            "malformed": 0.02,
        },
        {"processed": True},
    ),
    _Weather(*_CREATE, {"reset": 0.02, "error_page": 0.02, "throttled": 0.04}),
    _Weather(*_LOOK, {"delay": 0.03, "late_reply": 0.03}, {"seconds": 2.0}),
    _Weather(
        *_LOOK,
        {
            "reset": 0.03,
            "lost_reply": 0.02,
            "error_page": 0.03,
            "error_text": 0.02,
            "html": 0.02,
            "malformed": 0.02,
            "throttled": 0.02,
        },
    ),
    _Weather(*_LIST, {"delay": 0.05, "late_reply": 0.05}, {"seconds": 1.0}),
    _Weather(*_LIST, {"reset": 0.05, "error_page": 0.05, "malformed": 0.03, "throttled": 0.02}),
    _Weather(*_CANCEL, {"delay": 0.05, "late_reply": 0.05}, {"seconds": 1.0}),
    _Weather(*_CANCEL, {"reset": 0.05, "lost_reply": 0.05, "error_page": 0.05, "throttled": 0.03}),
    _Weather(*_MODEL, {"reset": 0.03, "error_page": 0.03, "delay": 0.03}, {"seconds": 0.5}),
    _Weather(*_FILE, {"truncated": 0.15}, {"bytes": 50_000}),
    _Weather(*_FILE, {"delay": 0.05, "late_reply": 0.05}, {"seconds": 1.0}),
    _Weather(*_FILE, {"reset": 0.05, "error_page": 0.05, "throttled": 0.02}),
)


def add_faults(faults: FaultPlan, seed: int) -> None:
    """Spoil about every third request, of every kind that a run sends."""
    for number, weather in enumerate(_ALL):
        faults.add_random(
            weather.rates,
            seed + number,
            method=weather.method,
            path=weather.path,
            **weather.options,
        )
