from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from scripted_api import ScriptedAPI, served

TOKEN = "r8_a_token_that_nobody_is_to_see"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAPI]:
    """An API that the environment's token is for, and that says whatever a test makes it say."""
    with served() as api:
        monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
        monkeypatch.setenv("REPLICATE_BASE_URL", api.base_url)
        yield api


@pytest.fixture
def thief() -> Iterator[ScriptedAPI]:
    """Somebody else's server, which takes whatever it is sent."""
    with served() as api:
        api.says({"id": "stolen", "status": "succeeded", "results": [], "next": None})
        yield api


# The same examples in each run: a longer search is a matter for whoever changes what is searched.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
