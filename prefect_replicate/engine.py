"""One thread with one event loop for all I/O of a process.

Work here continues whatever the caller's own loop, thread or cancel scope does: a flow's timeout,
an `asyncio.gather` or a blocked loop can't interrupt it. An interrupted caller cancels its work
here, and the work's own cleanup, which cancels the prediction, runs undisturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_replicate.exceptions import ReplicateError

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
Notice = Callable[[], "Coroutine[Any, Any, None] | None"]
_Work = Callable[["Caller"], Coroutine[Any, Any, T]]

CLEANUP_SECONDS = 15.0
"""How long an interrupted caller waits for its prediction to be canceled. After that, Prefect's
engine sends the signal again, and a runner kills the process 30 s after a cancel."""

_WAKE_SECONDS = 0.25
"""An exception that Prefect injects into a thread is raised only when the thread runs again."""

_SPIN_SECONDS = 0.002
_THREADS = 32


class Caller:
    """The side of a call that runs in the user's thread or loop."""

    def __init__(self, post: Callable[[Notice | None], None]) -> None:
        self._post = post
        self.interrupted = asyncio.Event()
        """Set on the engine's loop when the caller no longer wants the result."""
        self.reason: BaseException | None = None
        """Why it no longer wants it."""

    def tell(self, notice: Notice) -> None:
        """Run `notice` soon, in the caller's thread and its Prefect context.

        An awaitable that it returns is awaited there, except while the caller cleans up.
        """
        self._post(notice)


class _Engine:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self.state: dict[Any, Any] = {}

        # A daemon, because a loop that waits to be closed would hang the interpreter's exit.
        self.thread = threading.Thread(target=self._run, name="prefect-replicate", daemon=True)

    @property
    def is_usable(self) -> bool:
        # A thread without an `ident` was never started: tests run the loop themselves.
        is_dead = self.thread.ident is not None and not self.thread.is_alive()
        return self.pid == os.getpid() and not is_dead

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.loop.is_closed():
            # A block, logger or callback that exits must not end all other calls: asyncio raises
            # the error in the awaiting code, and also stops the loop.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()


_engine: _Engine | None = None
_engine_lock = threading.Lock()


def _running_engine() -> _Engine:
    global _engine
    with _engine_lock:
        if _engine is None or not _engine.is_usable:
            begun = _Engine(asyncio.new_event_loop())
            begun.thread.start()
            _engine = begun
        return _engine


def _forget_after_fork() -> None:
    global _engine, _engine_lock
    _engine, _engine_lock = None, threading.Lock()  # the parent's thread may have held it


if hasattr(os, "register_at_fork"):  # Windows lacks it, and does not fork
    os.register_at_fork(after_in_child=_forget_after_fork)


def process_state(key: Any, make: Callable[[], T]) -> T:
    """Return what this process's engine keeps under `key`, made on first use.

    Call it on the engine's loop, which makes it safe without a lock.
    """
    state = _running_engine().state
    if key not in state:
        state[key] = make()
    return state[key]


def known_state() -> dict[Any, Any] | None:
    """Return all `process_state`, for tests to clear; `None` if there is no engine."""
    return _engine.state if _engine is not None else None


async def in_thread(work: Callable[..., T], *args: Any, of: str = "files") -> T:
    """Run blocking work in a thread. The loop resolves names in its own threads.

    (`anyio.to_thread` searches all tasks of a loop that was not started by `asyncio.run`.)

    Args:
        work: The blocking function.
        args: Its arguments.
        of: Whose threads to use. Downloads have their own: however slow their hosts are, nothing
            else waits for them.
    """
    name = f"prefect-replicate {of}"
    threads = process_state(name, lambda: ThreadPoolExecutor(_THREADS, name))
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(threads, partial(context.run, work, *args))


class Recent(dict[K, V]):
    """Keeps the entries added last, so that a process's memory doesn't grow with its work."""

    limit = 1000

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > self.limit:
            del self[next(iter(self))]


class _Call(Generic[T]):
    """One piece of work on the engine's loop."""

    def __init__(self, work: _Work[T], caller: Caller) -> None:
        self._work = work
        self.caller = caller
        self.future: Future[T] = Future()
        self._task: asyncio.Task[None] | None = None
        self._loop = _running_engine().loop
        # Settings and run contexts of Prefect live in context variables, so the work gets a copy.
        self._loop.call_soon_threadsafe(self._begin, context=contextvars.copy_context())

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._perform())

    async def _perform(self) -> None:
        try:
            self.future.set_result(await self._work(self.caller))
        except BaseException as exc:  # noqa: BLE001 - any error is the caller's
            self.future.set_exception(exc)

    def interrupt(self, reason: BaseException) -> None:
        self.caller.reason = reason
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self.caller.interrupted.set()
        if self._task is not None:
            self._task.cancel()


def call(work: _Work[T]) -> T:
    """Run `work` on the engine's loop and block until it is done.

    A caller that is interrupted by a signal, a timeout or a cancellation first waits, for a limited
    time, until the work has cleaned up.
    """
    inbox: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
    running = _Call(work, Caller(inbox.put))
    running.future.add_done_callback(lambda _: inbox.put(None))
    try:
        while (notice := _next(inbox)) is not None:
            if (rest := notice()) is not None:
                run_coro_as_sync(rest)
    except BaseException as interruption:
        running.interrupt(interruption)
        _wait_for_cleanup(inbox)
        raise
    return _result(running.future)


def _next(inbox: queue.SimpleQueue[Notice | None]) -> Notice | None:
    while True:
        with contextlib.suppress(queue.Empty):
            return inbox.get(timeout=_WAKE_SECONDS)


def _wait_for_cleanup(inbox: queue.SimpleQueue[Notice | None]) -> None:
    give_up = time.monotonic() + CLEANUP_SECONDS
    while (left := give_up - time.monotonic()) > 0:
        try:
            notice = inbox.get(timeout=left)
            if notice is None:
                return
            _run_quietly(notice)
        except queue.Empty:
            return
        except (asyncio.CancelledError, KeyboardInterrupt):
            continue  # an impatient second Ctrl-C must not leave a paid prediction running


def _result(done: Future[T]) -> T:
    try:
        return done.result()
    except ReplicateError as exc:
        # The message is written for the user; the engine's frames would only hide it.
        cause = exc.__cause__
        raise exc.with_traceback(None) from cause and cause.with_traceback(None)
    except Exception as exc:  # from a block or Prefect's client, or a bug of ours
        raise ReplicateError(
            f"{type(exc).__name__}: {exc}. A retry continues with what has been paid so far."
        ) from exc


def begin(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Start `work` on the engine's loop without waiting for it. It must not raise."""
    loop = _running_engine().loop

    def start() -> None:
        tasks = process_state("begun", _Begun)
        task = loop.create_task(work())
        tasks.add(task)  # the loop alone would not keep it alive
        task.add_done_callback(tasks.discard)

    loop.call_soon_threadsafe(start)


class _Begun(set[Any]):
    """Tasks that nobody waits for."""


async def acall(work: _Work[T]) -> T:
    """Async version of `call`."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Notice | None] = asyncio.Queue()

    def post(notice: Notice | None) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop has been closed meanwhile
            loop.call_soon_threadsafe(inbox.put_nowait, notice)

    running = _Call(work, Caller(post))
    running.future.add_done_callback(lambda _: post(None))
    try:
        while (notice := await inbox.get()) is not None:
            if (rest := notice()) is not None:
                await rest
    except BaseException as interruption:
        running.interrupt(interruption)
        await _await_cleanup(inbox, running.future)
        raise
    return _result(running.future)


async def _await_cleanup(inbox: asyncio.Queue[Notice | None], done: Future[Any]) -> None:
    # Prefect's timeouts cancel again at every await, even through shields under `asyncio.gather`.
    # All are swallowed until the work is done; the first then propagates to the caller.
    give_up = time.monotonic() + CLEANUP_SECONDS
    while (left := give_up - time.monotonic()) > 0:
        try:
            notice = await asyncio.wait_for(inbox.get(), left)
            if notice is None:
                return
            _run_quietly(notice)
        except asyncio.TimeoutError:
            return
        except asyncio.CancelledError:
            if done.done() and inbox.empty():
                return
            time.sleep(_SPIN_SECONDS)  # noqa: ASYNC251 - an awaited sleep would be canceled


def _run_quietly(notice: Notice) -> None:
    # Prefect's console handler exits the process when nobody reads its output anymore, such as
    # after a worker's death. That must not happen during cleanup.
    with contextlib.suppress(Exception, SystemExit):
        if (rest := notice()) is not None:
            rest.close()
