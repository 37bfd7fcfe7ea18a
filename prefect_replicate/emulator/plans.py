"""What a model will do with an input, decided once, when the prediction is created."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from prefect_replicate.emulator.artifacts import Artifact

Outcome = Literal["succeeded", "failed"]
_FILE_MARK = "file:"


@dataclass(frozen=True)
class LogLine:
    """A line that the model prints, and when: seconds after it started."""

    at: float
    text: str


@dataclass(frozen=True)
class Plan:
    """The course of a prediction unless somebody stops it.

    Args:
        queue: Seconds of `starting`.
        run: Seconds of `processing`.
        output: Any JSON, with an `Artifact` wherever the reply has the URL of a file.
        arrivals: When each item of a list output arrives, in seconds after the start; without them,
            the whole output arrives at the end.
    """

    queue: float
    run: float
    outcome: Outcome = "succeeded"
    error: str | None = None
    output: Any = None
    arrivals: tuple[float, ...] = ()
    logs: tuple[LogLine, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])


def progress_logs(seconds: float, steps: int, seed: int) -> tuple[LogLine, ...]:
    """Return what a diffusion model prints: its seed, and a tqdm bar at each step."""
    start = LogLine(0.0, f"Using seed: {seed}\n")
    bars = (
        LogLine(seconds * step / steps, progress_bar(step, steps, seconds))
        for step in range(steps + 1)
    )
    return (start, *bars)


def progress_bar(step: int, steps: int, seconds: float) -> str:
    """Return one line of tqdm, such as ` 40%|████      | 20/50 [00:08<00:12,  2.50it/s]`."""
    share = step / steps
    bar = ("█" * int(share * 10)).ljust(10)
    spent, left = seconds * share, seconds * (1 - share)
    rate = f"{steps / seconds:5.2f}it/s" if step and seconds else "?it/s"
    return f"{share:4.0%}|{bar}| {step}/{steps} [{_clock(spent)}<{_clock(left)}, {rate}]\n"


def artifacts_in(output: Any) -> Iterator[Artifact]:
    """Yield every file in an output, in order."""
    if isinstance(output, Artifact):
        yield output
    elif isinstance(output, Mapping):
        for value in cast("Mapping[str, Any]", output).values():
            yield from artifacts_in(value)
    elif isinstance(output, (list, tuple)):
        for value in cast("list[Any]", output):
            yield from artifacts_in(value)


def with_files(output: Any, make: Callable[[str], Artifact]) -> Any:
    """Return `output` with a file in place of each string `file:NAME`."""
    if isinstance(output, str) and output.startswith(_FILE_MARK):
        return make(output.removeprefix(_FILE_MARK))
    if isinstance(output, list):
        return [with_files(one, make) for one in cast("list[Any]", output)]
    if isinstance(output, Mapping):
        named = cast("Mapping[str, Any]", output)
        return {name: with_files(one, make) for name, one in named.items()}
    return output


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"
