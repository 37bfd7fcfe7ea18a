"""The block that stores a Replicate API token."""

import os
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.core import Block, schema_extra
from pydantic import ConfigDict, Field, SecretStr, WithJsonSchema, field_validator
from replicate.client import Client

from prefect_replicate.api.connection import DEFAULT_BASE_URL, Address
from prefect_replicate.api.route import Route
from prefect_replicate.engine import acall, call
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.lifecycle.run import Account, Run, bound
from prefect_replicate.text import keep_secret

T = TypeVar("T")
P = ParamSpec("P")

LOGO_URL: Any = "https://github.com/replicate.png"
DOCUMENTATION_URL: Any = "https://replicate.com/docs/topics/security/api-tokens"

# Prefect's UI draws a union with null as two buttons above a plain text field, even for the token.
_PASSWORD = WithJsonSchema({"type": "string", "format": "password", "writeOnly": True})
_TEXT = WithJsonSchema({"type": "string"})


def _token_required(schema: dict[str, Any], model: type[Block]) -> None:
    # Prefect's server and UI take a block parameter either as the block's fields or as a reference
    # to a saved one, `{"$ref": …}`. If no field is required, a reference matches both and is
    # refused, so no deployment could be given a saved block. In Python, the token is optional.
    schema_extra(schema, model)
    schema["required"] = ["api_token"]


def reference_to(block_id: UUID) -> dict[str, Any]:
    """Return what Prefect takes in place of a saved block in the parameters of a run."""
    return {"$ref": {"block_document_id": str(block_id)}}


class ReplicateCredentials(CredentialsBlock):
    """Stores a Replicate API token, and provides clients that use it.

    Example:
        Load stored credentials and use the official client:
        ```python
        from prefect_replicate import ReplicateCredentials

        client = ReplicateCredentials.load("BLOCK_NAME").get_client()
        client.models.get("bytedance/seedance-1-lite")
        ```
    """

    model_config = ConfigDict(json_schema_extra=_token_required, hide_input_in_errors=True)

    _block_type_name = "Replicate Credentials"
    _block_type_slug = "replicate-credentials"
    _logo_url = LOGO_URL
    _documentation_url = DOCUMENTATION_URL
    _description = "Stores a Replicate API token for starting and watching predictions."

    api_token: Annotated[SecretStr | None, _PASSWORD] = Field(
        default=None,
        title="API token",
        description=(
            "Token from replicate.com/account/api-tokens, starting with r8_. A block made in Python"
            " may leave it out, and then reads REPLICATE_API_TOKEN from the environment when used."
        ),
    )
    base_url: Annotated[str | None, _TEXT] = Field(
        default=None,
        title="Base URL",
        description=(
            "Address of the API. For a local server, it replaces https://api.replicate.com, without"
            " /v1; for a gateway, its address and path replace https://api.replicate.com/v1. If"
            " empty, the environment variable REPLICATE_BASE_URL is used, or else"
            " https://api.replicate.com."
        ),
    )

    allowed_hosts: list[str] = Field(
        default_factory=list,
        title="Allowed file hosts",
        description=(
            "Hosts that files may be downloaded from, in addition to Replicate's own and the API's:"
            " each `host` or `host:port`. Some models store their files elsewhere."
        ),
    )

    @field_validator("base_url")
    @classmethod
    def _usable_url(cls, value: str | None) -> str | None:
        return _normalized(value) if value and value.strip() else None

    def get_client(self, *args: Any, **kwargs: Any) -> Client:
        """Return the official client; a process gets the same one for the same settings.

        Raises:
            ConfigurationError: There is no token, in the block or in the environment.
        """
        return _client_of_process(self.address(), os.getpid())

    @property
    def reference(self) -> dict[str, Any]:
        """The saved block as a parameter of a deployment's run, without the token.

        A loaded block can't be such a parameter: Prefect sends its secrets as asterisks.

        Raises:
            ConfigurationError: The block is not saved.
        """
        if self._block_document_id is None:
            raise ConfigurationError(
                "The ReplicateCredentials block is not saved, and can't be passed to other"
                " processes. Save it with `.save(NAME)`."
            )
        return reference_to(self._block_document_id)

    def address(self) -> Address:
        """Return the current token and URL.

        Raises:
            ConfigurationError: There is no token, or the URL is invalid.
        """
        own = (self.api_token.get_secret_value() if self.api_token else "").strip()
        token = own or os.environ.get("REPLICATE_API_TOKEN", "").strip()
        if not token:
            raise ConfigurationError(
                "There is no Replicate API token: set `api_token` in the ReplicateCredentials"
                " block, or the environment variable REPLICATE_API_TOKEN. Create a token at"
                " https://replicate.com/account/api-tokens. Nothing was sent."
            )
        if set(token) == {"*"}:
            raise ConfigurationError(
                "The API token is only asterisks: Prefect hides a block's secrets in the parameters"
                " of `run_deployment`. Pass the saved block's `reference`, choose the block in the"
                " form in Prefect's UI, or leave `credentials` out to use REPLICATE_API_TOKEN from"
                " the run's environment. Nothing was sent or paid."
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(
                "The Replicate API token has spaces or other invalid characters; copy it again."
                " Nothing was sent."
            )
        keep_secret(token)
        try:
            named = os.environ.get("REPLICATE_BASE_URL", "").strip() or DEFAULT_BASE_URL
            named = _normalized(named)
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from exc
        url = self.base_url or named
        if not own and url != named:
            # Otherwise, anyone who may start a run could have it sent to their own address.
            raise ConfigurationError(
                f"The token in REPLICATE_API_TOKEN is for {named}, and is not sent to {url}. Give"
                " the block its own token, or set REPLICATE_BASE_URL."
            )
        return Address(url, SecretStr(token))


@lru_cache(maxsize=32)
def _normalized(url: str) -> str:
    url = url.strip().rstrip("/")
    if not _is_web_address(url):
        raise ValueError(
            f"base_url {url!r} is not a web address; it should look like {DEFAULT_BASE_URL},"
            " without /v1."
        )
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError(f"base_url {url!r} has a query or a fragment; remove it.")
    if "@" in urlsplit(url).netloc:
        raise ValueError("base_url must not contain a user or password: it is shown and recorded.")
    return url.removesuffix("/v1") if urlsplit(url).path == "/v1" else url


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, or half an IPv6 address
        return False


@lru_cache(maxsize=32)
def _client_of_process(address: Address, pid: int) -> Client:
    # Not the engine's client: that one is used on the engine's event loop, and the official client
    # keeps one async pool, which breaks on a second loop.
    route = Route(address.base_url)
    token = address.token.get_secret_value()
    return Client(api_token=token, base_url=address.base_url, transport=route)


def call_as(
    credentials: ReplicateCredentials | None,
    do: Callable[Concatenate[Run, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run `do` on the engine's event loop, and block; all tasks, blocks and flows go through here.

    Args:
        credentials: The account; `None`: the environment's.
        do: Gets the current Prefect run, with the account.
        args: Its other arguments.
        kwargs: Its other arguments.
    """
    return call(bound(_account(credentials), do, *args, **kwargs))


async def acall_as(
    credentials: ReplicateCredentials | None,
    do: Callable[Concatenate[Run, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Async version of `call_as`."""
    return await acall(bound(_account(credentials), do, *args, **kwargs))


def _account(credentials: ReplicateCredentials | None) -> Account:
    if credentials is not None and not isinstance(credentials, ReplicateCredentials):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(  # without showing it: it may be the token
            f"credentials must be a ReplicateCredentials block, not a {type(credentials).__name__}."
            " Create one with ReplicateCredentials(api_token=…)."
        )
    credentials = credentials or ReplicateCredentials()
    block = credentials._block_document_id  # pyright: ignore[reportPrivateUsage]
    return Account(credentials.address(), block, frozenset(credentials.allowed_hosts))
