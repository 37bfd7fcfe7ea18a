"""The API as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api import (
    account,
    collections,
    control,
    deployments,
    files,
    models,
    page,
    predictions,
)
from prefect_replicate.emulator.api.replies import answer_problem
from prefect_replicate.emulator.platform import Platform


def api_app(platform: Platform) -> Starlette:
    """Return the API of `platform`."""
    app = Starlette(
        routes=[
            *account.routes,
            *models.routes,
            *collections.routes,
            *deployments.routes,
            *predictions.routes,
            *files.routes,
            *page.routes,
            *control.routes,
        ],
        exception_handlers={problems.Problem: answer_problem, HTTPException: _answer_exception},
    )
    app.state.platform = platform
    return app


async def _answer_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404:
        return problems.not_found().reply()
    if exc.status_code == 405:
        return problems.Problem(405, f'Method "{request.method}" not allowed.').reply()
    return problems.Problem(exc.status_code, exc.detail).reply()
