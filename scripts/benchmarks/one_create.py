"""The functions that one create passes in the package, counted into docs/one-create.md.

    scripts/one-create

It makes a flow run on its own servers, and counts the functions of the package that one
`create_prediction` passes there, once everything that is looked up only once is known.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from prefect import flow

import prefect_replicate
from benchmarks.rounds import fresh_python
from benchmarks.servers import environment_of_servers
from prefect_replicate import cancel_prediction, create_prediction
from prefect_replicate.engine import call

_PACKAGE = Path(inspect.getfile(prefect_replicate)).parent
_DOCUMENT = Path(__file__).parents[2] / "docs" / "one-create.md"
_MARKED = re.compile(r"(<!-- begin: .*? -->\n).*?(<!-- end -->)", re.DOTALL)


class Function(NamedTuple):
    """One of the package, by where it is defined."""

    module: str
    line: int
    name: str


@contextmanager
def recorded() -> Generator[list[tuple[Function | None, Function]]]:
    """Who calls whom for the first time, here and on the engine's loop, in that order."""
    seen: dict[Function, Function | None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (called := _function(frame)):
            seen.setdefault(called, _caller(frame))

    calls: list[tuple[Function | None, Function]] = []

    async def on_loop(profile: Any) -> None:
        sys.setprofile(profile)

    call(lambda _: on_loop(note))
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        call(lambda _: on_loop(None))
        calls += [(caller, called) for called, caller in seen.items()]


def _function(frame: FrameType) -> Function | None:
    code = frame.f_code
    path = Path(code.co_filename)
    if _PACKAGE not in path.parents or "emulator" in path.parts:
        return None
    name = getattr(code, "co_qualname", code.co_name).replace(".<locals>", "")
    return Function(str(path.relative_to(_PACKAGE)), code.co_firstlineno, name)


def _caller(frame: FrameType) -> Function | None:
    outer = frame.f_back
    while outer is not None:
        if found := _function(outer):
            return found
        outer = outer.f_back
    return None


def run() -> None:
    """Print, as JSON, who calls whom in one create of a flow run."""
    calls: list[tuple[Function | None, Function]] = []

    @flow
    def generation() -> None:
        cancel_prediction(create_prediction("emulator/timer", {"seconds": 1000}))
        with recorded() as found:
            prediction = create_prediction("emulator/timer", {"seconds": 1001})
        calls.extend(found)
        cancel_prediction(prediction)

    assert threading.current_thread() is threading.main_thread()
    generation()
    print(json.dumps(calls))


def main() -> None:
    """Write the table and the counts into the document."""
    with environment_of_servers() as env:
        found = fresh_python("-c", "from benchmarks.one_create import run; run()", env=env)
    written = _table(
        [(caller and Function(*caller), Function(*called)) for caller, called in found]
    )
    print(written)
    text = _DOCUMENT.read_text("utf-8")
    _DOCUMENT.write_text(_MARKED.sub(lambda match: match[1] + written + match[2], text), "utf-8")


def _table(calls: list[tuple[Function | None, Function]]) -> str:
    """The modules in the order of their first calls, with those that each calls first."""
    modules = Counter(called.module for _, called in calls)
    lines = [
        f"| `{module}` | {count} | {', '.join(_callees(module, calls)) or '–'} |"
        for module, count in modules.items()
    ]
    total = f"{len(calls)} functions in {len(modules)} modules.\n"
    return "\n".join(["| module | functions | calls |", "| --- | --- | --- |", *lines, "", total])


def _callees(module: str, calls: list[tuple[Function | None, Function]]) -> list[str]:
    callees = (called.module for caller, called in calls if caller and caller.module == module)
    return [f"`{one}`" for one in dict.fromkeys(callees) if one != module]


if __name__ == "__main__":
    main()
