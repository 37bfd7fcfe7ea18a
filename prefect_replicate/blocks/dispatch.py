"""Methods with one name that block in sync code and are awaited in async code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

R = TypeVar("R")
P = ParamSpec("P")


def dispatch(
    twin: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[[Callable[P, R]], Callable[P, R | Coroutine[Any, Any, R]]]:
    """Have a method return its async version's coroutine if an event loop is running.

    Unlike with Prefect's `async_dispatch`, it is sync in a thread of an async flow and async under
    `asyncio.run` in a sync flow, and the coroutine says what to do if it is used as the result.
    `_sync=True` and `_sync=False` override the choice.
    """

    def decorator(method: Callable[P, R]) -> Callable[P, R | Coroutine[Any, Any, R]]:
        @wraps(method)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R | Coroutine[Any, Any, R]:
            asked = kwargs.pop("_sync", None)
            if _is_sync_here() if asked is None else asked:
                return method(*args, **kwargs)
            return _AdvisingCoroutine(twin(*args, **kwargs), method.__name__)

        return wrapper

    return decorator


def _is_sync_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    # A sync flow that an async flow calls runs in the thread of that flow's event loop, and may run
    # a loop of its own. So the nearer one decides: an async function, or Prefect's sync engine.
    frame = inspect.currentframe()
    while frame is not None and not frame.f_code.co_flags & inspect.CO_COROUTINE:
        if frame.f_globals.get("__name__", "").startswith("prefect."):
            return True
        frame = frame.f_back
    return False


class _AdvisingCoroutine(Coroutine[Any, Any, R]):
    """A coroutine that says what to do when it is used as if it were its result."""

    def __init__(self, coroutine: Coroutine[Any, Any, R], method: str) -> None:
        self._coroutine = coroutine
        self._advice = (
            f"`{method}` returned a coroutine, because an event loop is running here: `await` it,"
            f" or call `{method}(…, _sync=True)`, which blocks."
        )
        self.__name__ = self.__qualname__ = method  # asyncio shows it in the repr of a task

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *raised: Any) -> Any:
        return self._coroutine.throw(*raised)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, None, R]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self._advice)

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(self._advice)

    def __iter__(self) -> NoReturn:
        raise TypeError(self._advice)

    def __repr__(self) -> str:
        return f"<{self._advice}>"
