"""The check of all task and flow arguments, before anything else is done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast, get_args

from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import WritableFileSystem
from prefect.utilities.callables import parameter_docstrings
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.json_schema import SkipJsonSchema

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.lifecycle.creation import OnCrash
from prefect_replicate.settings import settings
from prefect_replicate.text import in_line
from prefect_replicate.values import PollPolicy, Prediction
from prefect_replicate.values.form import title_of
from prefect_replicate.values.poll_policy import LONGEST_SECONDS

P = ParamSpec("P")
R = TypeVar("R")


class _Wrong(Exception):
    """The argument is not what is expected."""


class _Kind(NamedTuple):
    read: Callable[[Any], Any]
    """Returns the argument in the form in which it is used."""
    words: str
    """What is expected."""


def _is(*kinds: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _Wrong
        return value

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong
    if not 0 < value <= LONGEST_SECONDS:  # refuses infinity and NaN, too
        raise _Wrong
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Wrong
    return value


_prediction = _is(Prediction, str)


def _prediction_or_none(value: Any) -> Prediction | str | None:
    return None if value is None else _prediction(value)


def _input(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _Wrong
    names = cast("Mapping[Any, Any]", value)
    if not all(isinstance(name, str) for name in names):
        raise _Wrong
    return cast("Mapping[str, Any]", names)


def _policy(value: Any) -> PollPolicy:
    if value is None:
        return settings().policy
    if isinstance(value, Mapping):
        return PollPolicy.model_validate(value)
    return _is(PollPolicy)(value)


def _hosts(value: Any) -> Sequence[str]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | set | frozenset):
        raise _Wrong
    return [_text(one) for one in cast("Sequence[Any]", value)]


def _callback(value: Any) -> Any:
    if value is not None and not callable(value):
        raise _Wrong
    return value


def _one_of(*values: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in values:
            raise _Wrong
        return value

    return read


_destination = _is(str, Path, WritableFileSystem, ObjectStorageBlock)


def _destination_or_none(value: Any) -> Any:
    return None if value is None else _destination(value)


_SECONDS = _Kind(_seconds, "a number of seconds above 0, at most a year, or None")
_KINDS = {
    "model": _Kind(_is(str), "a string such as 'owner/name'"),
    "input": _Kind(_input, "a mapping from the model's input names to their values"),
    "cancel_after": _SECONDS,
    "timeout": _SECONDS,
    "replaces": _Kind(_prediction_or_none, "a Prediction, its id, or None"),
    "prediction": _Kind(_prediction, "a Prediction or its id"),
    "made": _Kind(_is(Prediction), "a Prediction"),
    "on_crash": _Kind(_one_of(*get_args(OnCrash)), "'cancel' or 'keep'"),
    "regenerate_expired": _Kind(_is(bool), "True or False"),
    "retries": _Kind(_count, "a whole number, 0 or more"),
    "policy": _Kind(_policy, "a PollPolicy, a dict of its fields, or None"),
    "on_update": _Kind(_callback, "a function, a coroutine function, or None"),
    "destination": _Kind(
        _destination,
        "a folder, a URL such as 's3://bucket/folder', a storage block, or"
        " 'block:<type-slug>/<name>'",
    ),
    "to": _Kind(
        _destination_or_none,
        "a folder, a URL such as 's3://bucket/folder', a storage block,"
        " 'block:<type-slug>/<name>', or None",
    ),
    "check_input": _Kind(_is(bool), "True or False"),
    "allowed_hosts": _Kind(_hosts, "a list of strings such as ['files.example.com']"),
}


def checked(**given: Any) -> tuple[Any, ...]:
    """Return the arguments in the form in which they are used, in the given order.

    Raises:
        InvalidInputError: An argument is invalid; the message names the first one.
    """
    return tuple([_read(name, value) for name, value in given.items()])


def _read(name: str, value: Any) -> Any:
    kind = _KINDS[name]
    shown = {"made": "prediction", "to": "destination"}.get(name, name)
    try:
        return kind.read(value)
    except _Wrong:
        what = type(value).__name__
        if value is None or isinstance(value, bool | int | float | str):
            what = in_line(repr(value), 80)
        raise InvalidInputError(
            f"{shown} must be {kind.words}, not {what}. Nothing was sent."
        ) from None
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join([shown, *map(str, first["loc"])])
        raise InvalidInputError(f"{where}: {first['msg']}. Nothing was sent.") from None


class Advanced(BaseModel):
    """Rarely needed parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parameters_of(kind: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the parameters of a class, which it instantiates with its arguments.

    So a flow's parameters are declared once: for its callers, for the form of its deployments, for
    its checks, and for its async version. A class may name parameters that forms group under
    `advanced` (`ADVANCED`), and others that they hide (`NOT_IN_FORMS`).
    """
    advanced: tuple[str, ...] = getattr(kind, "ADVANCED", ())
    hidden = {*advanced, *getattr(kind, "NOT_IN_FORMS", ())}

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        own, wanted = inspect.signature(function), inspect.signature(kind)
        parameters = [
            one.replace(annotation=SkipJsonSchema[one.annotation]) if one.name in hidden else one
            for one in wanted.parameters.values()
            if one.name != "advanced"
        ]
        if advanced:
            if kind not in _groups:  # its async version has the same
                _groups[kind] = _group([wanted.parameters[name] for name in advanced], function)
            group = _groups[kind]
            last = Parameter("advanced", Parameter.KEYWORD_ONLY, default=group(), annotation=group)
            parameters.append(last)
        whole = wanted.replace(parameters=parameters, return_annotation=own.return_annotation)
        annotations = {name: one.annotation for name, one in whole.parameters.items()}
        function.__signature__ = whole  # pyright: ignore[reportFunctionMemberAccess]
        function.__annotations__ = annotations | {"return": own.return_annotation}
        return function

    return decorate


_groups = dict[Any, type[Advanced]]()


def _group(parameters: Sequence[Parameter], function: Callable[..., Any]) -> type[Advanced]:
    """Make a model of some of a function's parameters, which forms show under one heading."""
    about = parameter_docstrings(inspect.getdoc(function))
    fields = {
        one.name: (
            one.annotation,
            Field(one.default, title=title_of(one.name), description=about.get(one.name)),
        )
        for one in parameters
    }
    return create_model("Advanced", __base__=Advanced, **cast("Any", fields))
