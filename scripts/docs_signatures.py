"""Shows what `scripts/docs` can't read in the source: parameters of flows, and fields."""

import inspect
from importlib import import_module
from typing import Any

import griffe


class Signatures(griffe.Extension):
    """Reads parameters and descriptions from the imported package."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Show what flows and tasks take, with the values of their defaults."""
        if any(str(one.value).startswith(("flow(", "task(")) for one in func.decorators):
            found = getattr(import_module(func.module.path), func.name)
            parameters = inspect.signature(found.fn).parameters.values()
            func.parameters = griffe.Parameters(*map(_shown, parameters))

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Take the description of a Pydantic field for its docstring."""
        if attr.docstring is None and isinstance(attr.parent, griffe.Class):
            owner = getattr(import_module(attr.module.path), attr.parent.name, None)
            field = getattr(owner, "model_fields", {}).get(attr.name)
            if field is not None and field.description:
                attr.docstring = griffe.Docstring(field.description, parent=attr)
                attr.value = (
                    None
                    if field.is_required()
                    else repr(field.get_default(call_default_factory=True))
                )
                attr.labels.clear()


def _shown(one: inspect.Parameter) -> griffe.Parameter:
    kind = griffe.ParameterKind[one.kind.name.lower()]
    is_needed = one.default is inspect.Parameter.empty
    default = None if is_needed else "Advanced()" if one.name == "advanced" else repr(one.default)
    return griffe.Parameter(one.name, kind=kind, default=default)
