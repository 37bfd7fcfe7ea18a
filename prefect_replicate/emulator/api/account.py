"""The account and its webhook secret."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator.platform import USERNAME, WEBHOOK_SECRET


async def get_account(request: Request) -> Response:
    """Describe the account that the token belongs to."""
    return JSONResponse(
        {
            "type": "organization",
            "username": USERNAME,
            "name": "Acme Studio",
            "github_url": f"https://github.com/{USERNAME}",
            "avatar_url": f"https://github.com/{USERNAME}.png",
        }
    )


async def get_webhook_secret(request: Request) -> Response:
    """Return the secret that webhooks are signed with."""
    return JSONResponse({"key": WEBHOOK_SECRET})


routes = [
    Route("/v1/account", get_account),
    Route("/v1/webhooks/default/secret", get_webhook_secret),
]
