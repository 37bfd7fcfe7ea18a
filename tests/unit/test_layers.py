"""The picture of the layers in docs/concepts/architecture.md shows the imports as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import prefect_replicate

PACKAGE = Path(prefect_replicate.__file__).parent
DIAGRAM = (Path(__file__).parents[2] / "docs" / "images" / "layers.mmd").read_text("utf-8")
ARROWS = {
    box: set(below.split(" & "))
    for box, below in re.findall(r"^    (\w+)(?:\[.*\])? --> (.*)$", DIAGRAM, re.MULTILINE)
}
BOXES = {
    module: box
    for box, modules in re.findall(r'^    (\w+)\["([^":]+)', DIAGRAM, re.MULTILINE)
    for module in modules.split(" · ")
} | {"exceptions": "exceptions"}
# Every layer may use the last two; the emulator is a program of its own.
LEFT_OUT = {"_version", "emulator", "settings", "text"}


def below(box: str) -> set[str]:
    return {box}.union(*map(below, ARROWS.get(box, ())))


def imported(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    names = {str(one.module) for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
    return {one.split(".")[1] for one in names if one.startswith("prefect_replicate.")} - LEFT_OUT


def test_every_module_is_drawn() -> None:
    modules = {one.stem for one in PACKAGE.iterdir() if one.suffix in ("", ".py")}

    assert modules - {"__init__", "__pycache__"} == BOXES.keys() | LEFT_OUT


@pytest.mark.parametrize("module", sorted(BOXES.keys() - {"exceptions"}))  # its are for types alone
def test_a_module_imports_only_from_those_below_it(module: str) -> None:
    files = [*(PACKAGE / module).rglob("*.py"), *PACKAGE.glob(f"{module}.py")]

    found = {BOXES[one] for file in files for one in imported(file)}

    assert files
    assert found <= below(BOXES[module])
