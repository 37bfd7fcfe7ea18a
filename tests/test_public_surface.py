"""What is public is named, documented, and survives a pickle; an error comes with its place."""

from __future__ import annotations

import ast
import inspect
import itertools
import pickle
import re
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest
from prefect import Flow, Task

import prefect_replicate
from prefect_replicate import GeneratedVideos, Prediction, blocks, exceptions, flows, tasks, values

PREDICTION = Prediction(id="abc", status="failed", error="E1000")
ERRORS = [
    one
    for one in vars(exceptions).values()
    if inspect.isclass(one) and issubclass(one, exceptions.ReplicateError)
]
PUBLIC = [name for name in prefect_replicate.__all__ if name != "__version__"]


def public(module: ModuleType) -> list[str]:
    """The names that a reader of the module can see, without modules."""
    return sorted(
        name
        for name in dir(module)
        if not name.startswith("_") and not inspect.ismodule(getattr(module, name))
    )


@pytest.mark.parametrize("module", [prefect_replicate, blocks, flows, tasks, values])
def test_what_is_listed_is_what_is_there(module: ModuleType) -> None:
    named = [name for name in module.__all__ if name != "__version__"]

    assert named == sorted(named)
    assert named == public(module)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, prefect_replicate; print({'prefect', 'replicate'} & {*sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_the_errors_that_are_listed_are_those_that_are_there() -> None:
    assert sorted(exceptions.__all__) == exceptions.__all__
    assert exceptions.__all__ == sorted(one.__name__ for one in ERRORS)


def _function_of(value: Any) -> Any:
    return value.fn if isinstance(value, Flow | Task) else value


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_documented(name: str) -> None:
    doc = inspect.getdoc(_function_of(getattr(prefect_replicate, name)))

    assert doc, f"{name} has no docstring"
    assert re.match(r"[A-Z].*[.:]$", doc.splitlines()[0])


@pytest.mark.parametrize(
    "block_or_value", [getattr(prefect_replicate, name) for name in PUBLIC if name[0].isupper()]
)
def test_every_public_method_is_documented(block_or_value: type) -> None:
    own = {name: one for name, one in vars(block_or_value).items() if inspect.isfunction(one)}
    bare = [name for name, one in own.items() if not name.startswith("_") and not one.__doc__]

    assert bare == []


TWINS = [(prefect_replicate, name) for name in PUBLIC if name[1:] in PUBLIC and name[0] == "a"] + [
    (prefect_replicate.PredictionRun, name) for name in ("acancel", "afetch_result")
]


@pytest.mark.parametrize(("owner", "name"), TWINS)
def test_an_async_twin_has_the_same_signature_and_says_whose_it_is(owner: Any, name: str) -> None:
    twin, original = (_function_of(getattr(owner, one)) for one in (name, name[1:]))

    assert inspect.iscoroutinefunction(twin)
    assert inspect.getdoc(twin) == f"Async version of `{name[1:]}`."
    assert inspect.signature(twin) == inspect.signature(original)


def test_each_task_and_flow_has_its_twin() -> None:
    runs = {name for name in PUBLIC if isinstance(getattr(prefect_replicate, name), Flow | Task)}
    twins = {name for name in runs if name[1:] in runs}

    assert {name[1:] for name in twins} | twins == runs


@pytest.mark.parametrize(
    "name", [one for one in PUBLIC if one[0].islower() and one[1:] not in PUBLIC]
)
def test_every_function_documents_its_arguments_its_result_and_its_errors(name: str) -> None:
    function = _function_of(getattr(prefect_replicate, name))
    doc = inspect.getdoc(function) or ""
    sections = dict(re.findall(r"^(\w+):\n((?:    .*\n|\n)+)", f"{doc}\n", re.MULTILINE))

    documented = re.findall(r"^    (\w+):", sections.get("Args", ""), re.MULTILINE)
    assert documented == list(inspect.signature(function).parameters)
    needed = {"Example"} if name == "cancel_predictions" else {"Example", "Raises", "Returns"}
    assert needed <= set(sections)


@pytest.mark.parametrize("block", [one for one in blocks.__all__ if one != "PredictionRun"])
def test_every_block_has_an_example(block: str) -> None:
    assert "Example:\n" in (inspect.getdoc(getattr(blocks, block)) or "")


@pytest.mark.parametrize(
    "model", [one for one in PUBLIC if hasattr(getattr(prefect_replicate, one), "model_fields")]
)
def test_every_field_is_described(model: str) -> None:
    found = getattr(prefect_replicate, model)
    own = [one for one in found.__mro__ if one.__module__.startswith("prefect_replicate")]
    bodies = [
        ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        for one in own
        if "[" not in one.__name__  # a generic base with its parameters has no source
    ]

    bare = [
        name
        for body in bodies
        if isinstance(body, ast.ClassDef)
        for before, after in itertools.pairwise(body.body)
        if isinstance(before, ast.AnnAssign) and not isinstance(after, ast.Expr)
        if (name := ast.unparse(before.target)) in found.model_fields
        if not found.model_fields[name].description
    ]
    assert bare == []


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawing = (exceptions.__doc__ or "").split("```")[1]
    drawn = [
        (line.index(match[0]) // 4, match[0])
        for line in drawing.splitlines()
        if (match := re.search(r"[A-Z]\w+Error", line))
    ]

    assert drawn == list(_tree(exceptions.ReplicateError, 0))


def _tree(error: type, depth: int) -> list[tuple[int, str]]:
    below = [one for one in ERRORS if one.__bases__[0] is error]
    return [(depth, error.__name__), *(line for one in below for line in _tree(one, depth + 1))]


def _example(error: type[Exception]) -> Exception:
    if issubclass(error, exceptions.PredictionError):
        return error("It failed.", PREDICTION)
    if issubclass(error, exceptions.BatchError):
        return error("It failed.", GeneratedVideos(outcomes=[], wall_seconds=1.0))
    return (
        error("It failed.", 502) if issubclass(error, exceptions.APIError) else error("It failed.")
    )


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_survives_a_pickle_with_all_that_it_knows(error: type[Exception]) -> None:
    one = _example(error)

    again = pickle.loads(pickle.dumps(one))

    assert type(again) is error
    assert (str(again), vars(again)) == ("It failed.", vars(one))


def test_errors_are_of_the_kinds_that_python_has_for_them() -> None:
    assert issubclass(exceptions.InvalidInputError, ValueError)
    assert issubclass(exceptions.PredictionTimeoutError, TimeoutError)


def test_prefect_finds_the_collection() -> None:
    [found] = entry_points(group="prefect.collections", name="prefect_replicate")

    assert found.load().ReplicateCredentials is prefect_replicate.ReplicateCredentials


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert prefect_replicate.__version__ == version("prefect-replicate")


def test_the_emulators_needs_are_not_the_packages() -> None:
    code = "import sys, prefect_replicate; print({'av', 'PIL'} & {*sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
