import sys
from types import FrameType
from typing import Any

import httpx
import pytest
from benchmarks.local_account import TOKEN, URL, LocalAccount

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.catalogue import default_catalogue
from prefect_replicate.emulator.orders import Order
from prefect_replicate.emulator.paging import page_of


def create_many(emulator: Emulator, api: httpx.Client, count: int) -> list[str]:
    ids: list[str] = []
    for _ in range(count):
        body = {"version": "emulator/timer", "input": {"seconds": 600}}
        ids.append(api.post("/predictions", json=body).json()["id"])
        emulator.clock.advance(1)
    return ids


def walk(api: httpx.Client, url: str | None) -> list[Any]:
    found: list[Any] = []
    while url is not None:
        page = api.get(url).json()
        found += page["results"]
        url = page["next"]
    return found


def test_pages_lead_forward_and_back() -> None:
    items = list(range(25))
    first = page_of(items, str, None, 10)
    second = page_of(items, str, first.next, 10)
    third = page_of(items, str, second.next, 10)

    assert [*first.items, *second.items, *third.items] == items
    assert (first.previous, third.next) == (None, None)
    assert page_of(items, str, third.previous, 10) == second


def test_a_cursor_stays_put_while_items_come_in_front() -> None:
    first = page_of([5, 4, 3, 2, 1], str, None, 2)

    assert page_of([7, 6, 5, 4, 3, 2, 1], str, first.next, 2).items == [3, 2]


def test_predictions_come_newest_first_in_pages_of_100(api: httpx.Client, still: Emulator) -> None:
    ids = create_many(still, api, 120)
    first = api.get("/predictions").json()

    assert len(first["results"]) == 100
    assert first["next"].startswith(f"{still.base_url}/v1/predictions?cursor=")
    assert [one["id"] for one in walk(api, "/predictions")] == ids[::-1]


def test_created_after_includes_and_created_before_excludes(
    api: httpx.Client, still: Emulator
) -> None:
    ids = create_many(still, api, 5)
    times = [one["created_at"] for one in reversed(walk(api, "/predictions"))]
    url = f"/predictions?created_after={times[1]}&created_before={times[3]}"

    assert [one["id"] for one in walk(api, url)] == [ids[2], ids[1]]


def test_no_prediction_was_made_on_the_web(api: httpx.Client, still: Emulator) -> None:
    create_many(still, api, 1)

    assert api.get("/predictions?source=web").json()["results"] == []


@pytest.mark.parametrize("query", ["created_after=yesterday", "source=api", "cursor=x"])
def test_queries_that_make_no_sense_are_refused(api: httpx.Client, query: str) -> None:
    assert api.get(f"/predictions?{query}").status_code == 400


def test_models_are_listed_by_their_newest_version(api: httpx.Client) -> None:
    listed = api.get("/models").json()["results"]
    newest = [one["latest_version"]["created_at"] for one in listed]

    assert newest == sorted(newest, reverse=True)
    assert "bytedance/seedance-1-lite" in {f"{one['owner']}/{one['name']}" for one in listed}


def test_models_are_searched_with_the_query_verb(api: httpx.Client) -> None:
    found = api.request("QUERY", "/models", content="seedance").json()["results"]

    assert [one["name"] for one in found] == ["seedance-1-lite"]


def test_models_are_searched_by_words_in_quotes_as_the_javascript_client_sends_them(
    api: httpx.Client,
) -> None:
    found = api.request("QUERY", "/models", content='"video fast"').json()["results"]

    assert [one["name"] for one in found] == ["wan-2.2-t2v-fast"]


def test_collections_are_listed_and_hold_models(api: httpx.Client) -> None:
    listed = api.get("/collections").json()["results"]
    models = [
        f"{model['owner']}/{model['name']}"
        for one in listed
        for model in api.get(f"/collections/{one['slug']}").json()["models"]
    ]

    assert {"slug", "name", "description"} == set(listed[0])
    assert {"bytedance/seedance-1-lite", "emulator/picture", "emulator/speech"} < set(models)


def test_a_search_finds_models_and_collections_best_first(api: httpx.Client) -> None:
    found = api.get("/search", params={"query": "text image pictures", "limit": 2}).json()

    names = [one["model"]["name"] for one in found["models"]]
    assert (names[0], len(names)) == ("picture", 2)
    assert "text-to-image" in [one["slug"] for one in found["collections"]]


@pytest.mark.parametrize("query", ["", "query=+", "query=x&limit=0", "query=x&limit=51"])
def test_searches_that_make_no_sense_are_refused(api: httpx.Client, query: str) -> None:
    reply = api.get(f"/search?{query}")

    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("Query parameter ")


async def test_thousands_of_live_predictions_are_cheap() -> None:
    few, many = await calls_to_read(100), await calls_to_read(3000)

    assert many - few < 2 * 2900  # a page is cut out of all of them, and writes a hundred


async def calls_to_read(count: int) -> int:
    """How often a function is called for a prediction and a page, where there are so many."""
    account, model = LocalAccount(), default_catalogue().models[0]
    order = Order({"prompt": "a red fox"})
    for _ in range(count):
        newest = account.platform.start(model, model.latest_version, order)
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    headers = {"authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(account.app)
    async with httpx.AsyncClient(base_url=URL, headers=headers, transport=transport) as client:
        sys.setprofile(note)
        one = await client.get(f"/v1/predictions/{newest.id}")
        page = await client.get("/v1/predictions")
        sys.setprofile(None)
    assert (one.status_code, len(page.json()["results"])) == (200, 100)
    return calls
