"""Shows what `scripts/docs` can't read in the source: fields, and what flows and tasks take."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_type_hints

import griffe
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings


class Signatures(griffe.Extension):
    """Reads parameters, fields, types and defaults from the imported package."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Show what flows and tasks take, list what classes have, and link the errors."""
        for shown in _documented(pkg):
            if shown.is_function:
                _read_signature(shown)
            parsed = shown.docstring.parsed
            if shown.is_class and (listed := [*_fields(shown), *_attributes(shown)]):
                parsed.append(griffe.DocstringSectionAttributes(listed))
            for section in parsed:
                if section.kind is griffe.DocstringSectionKind.parameters:
                    if shown.is_class and "dataclass" in shown.labels:
                        section.value = list(_parameters(shown, section.value))
                    assert all(one.annotation for one in section.value), shown.path
                if section.kind is griffe.DocstringSectionKind.raises:
                    for one in section.value:
                        one.annotation = _linked(str(one.annotation), pkg["exceptions"])


def _read_signature(shown: griffe.Function) -> None:
    """Take the parameters of a flow or task from the function that runs."""
    if any(str(one.value).startswith(("flow(", "task(")) for one in shown.decorators):
        function = _imported(shown).fn
        types = get_type_hints(function)
        shown.returns = _annotation(types["return"], shown)
        shown.parameters = griffe.Parameters(
            *(
                griffe.Parameter(
                    one.name,
                    annotation=_annotation(types[one.name], shown),
                    kind=griffe.ParameterKind[one.kind.name.lower()],
                    default=_default(one.default),
                )
                for one in inspect.signature(function).parameters.values()
            )
        )


def _imported(shown: griffe.Object) -> Any:
    return getattr(import_module(shown.module.path), shown.name)


def _documented(of: griffe.Module | griffe.Class) -> Iterator[griffe.Object]:
    for one in of.members.values():
        if not one.is_alias and not one.name.startswith("_"):
            if one.docstring and not one.is_module:
                yield one
            if one.is_module or one.is_class:
                yield from _documented(one)


def _fields(shown: griffe.Object) -> Iterator[griffe.DocstringAttribute]:
    """Those of a Pydantic model, which may be described by `Field`, but for Prefect's own."""
    model = _imported(shown)
    if not issubclass(model, BaseModel):
        return
    types = get_type_hints(model)
    for name, field in model.model_fields.items():
        if name in shown.all_members:
            own = shown.all_members[name].docstring
            about = own.value if own else field.description or ""
            default = field.get_default(call_default_factory=True)
            if default not in (PydanticUndefined, None, "", [], {}):
                about = f"{about} Default: `{_default(default)}`."
            yield griffe.DocstringAttribute(
                name, annotation=_annotation(types[name], shown), description=about
            )


def _parameters(
    shown: griffe.Object, described: list[griffe.DocstringParameter]
) -> Iterator[griffe.DocstringParameter]:
    """The fields of a dataclass, of which its docstring describes those that need it."""
    kind = _imported(shown)
    types, about = get_type_hints(kind), {one.name: one.description for one in described}
    for name, parameter in inspect.signature(kind).parameters.items():
        yield griffe.DocstringParameter(
            name,
            annotation=_annotation(types[name], shown),
            description=about.get(name, ""),
            value=_default(parameter.default),
        )


def _attributes(shown: griffe.Object) -> Iterator[griffe.DocstringAttribute]:
    """Properties and attributes that have a docstring, but for those computed from settings."""
    kind = _imported(shown)
    fields = getattr(kind, "model_fields", ())
    if issubclass(kind, BaseSettings):
        return
    for name, one in shown.all_members.items():
        if one.is_attribute and one.docstring and name not in fields and not name.startswith("_"):
            about = one.docstring.value
            yield griffe.DocstringAttribute(name, annotation=one.annotation, description=about)


def _annotation(kind: Any, shown: griffe.Object) -> griffe.Expr | str | None:
    """Write a type as people do, without the names of modules."""
    return _linked(re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(kind)), shown.package)


def _linked(code: str, scope: griffe.Module) -> griffe.Expr | str | None:
    return griffe.get_expression(
        ast.parse(code, mode="eval").body, parent=scope, parse_strings=False
    )


def _default(value: Any) -> str | None:
    if value is inspect.Parameter.empty:
        return None
    return f"{type(value).__name__}()" if isinstance(value, BaseModel) else repr(value)
