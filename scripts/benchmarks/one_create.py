"""The way of one create through the package, counted and drawn into docs/one-create.md.

    scripts/one-create

It makes a flow run on servers of its own, and lists the functions of the package that one
`create_prediction` passes there, when everything that is looked up once is known.
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
    """Write the picture and the counts into the document."""
    with environment_of_servers() as env:
        found = fresh_python("-c", "from benchmarks.one_create import run; run()", env=env)
    calls = [(caller and Function(*caller), Function(*called)) for caller, called in found]
    modules = Counter(called.module for _, called in calls)
    print(f"{len(calls)} functions in {len(modules)} modules")
    for module, count in modules.most_common():
        print(f"{count:4} {module}")
    text = _DOCUMENT.read_text("utf-8")
    drawn = _MARKED.sub(lambda match: match[1] + _picture(calls) + match[2], text)
    _DOCUMENT.write_text(drawn, "utf-8")


def _picture(calls: list[tuple[Function | None, Function]]) -> str:
    """Which module calls which, in the order of the first calls."""
    edges = Counter(
        (caller.module, called.module)
        for caller, called in calls
        if caller is not None and caller.module != called.module
    )
    modules = Counter(called.module for _, called in calls)
    names = {module: f"m{number}" for number, module in enumerate(modules)}
    boxes = [f'    {names[one]}["{one}<br/>{count}"]' for one, count in modules.items()]
    arrows = [f"    {names[a]} --> {names[b]}" for a, b in edges]
    total = f"{len(calls)} functions in {len(modules)} modules; in each box, how many.\n"
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *arrows, "```", "", total])


if __name__ == "__main__":
    main()
