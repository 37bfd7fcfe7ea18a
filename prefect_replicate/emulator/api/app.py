"""The API as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api import account, models, predictions
from prefect_replicate.emulator.api.replies import answer_problem
from prefect_replicate.emulator.platform import Platform


def api_app(platform: Platform) -> Starlette:
    """Return the API of `platform`."""
    app = Starlette(
        routes=[*account.routes, *models.routes, *predictions.routes],
        exception_handlers={problems.Problem: answer_problem, 404: _no_route, 405: _no_method},
    )
    app.state.platform = platform
    return app


async def _no_route(request: Request, exc: Exception) -> Response:
    return problems.not_found().reply()


async def _no_method(request: Request, exc: Exception) -> Response:
    return problems.Problem(405, f'Method "{request.method}" not allowed.').reply()
