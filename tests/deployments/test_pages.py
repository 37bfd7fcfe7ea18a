"""What people see of results in Prefect's two UIs: images that have loaded, text on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact

from prefect_replicate import PollPolicy, generate_video, generate_videos, run_model
from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator

# The browser has an event loop in this thread, hence `_sync`.
# An image without a source, in an editor that is hidden, counts as loaded too.
VISIBLE_IMAGES = """() => [...document.images].filter(image => {
    const shown = image.getBoundingClientRect();
    return image.complete && image.naturalWidth > 0 && shown.width > 1 && shown.height > 1
        && shown.left >= 0 && shown.right <= document.documentElement.clientWidth
        && image.checkVisibility({opacityProperty: true, visibilityProperty: true});
}).length"""

# Both have a column on the right about the artifact and its flow run.
OVER_THE_EDGE = """() => {
    const headings = [...document.querySelectorAll('*')].filter(
        one => one.childElementCount === 0 && one.textContent.trim() === 'Flow Run');
    const top = headings[0].getBoundingClientRect().top - 50;
    const edge = headings[headings.length - 1].getBoundingClientRect().left;
    return [...document.querySelectorAll('h1, p, li, td, img')]
        .map(one => [one.tagName, one.getBoundingClientRect()])
        .filter(([_, box]) => box.top > top && box.left < edge && box.right > edge)
        .map(([name, box]) => `${name} to ${box.right} of ${edge}`);
}"""

ODD = "a fox & [an](http://owl) <i>in</i> `snow` | at night"


class Shown(NamedTuple):
    """An artifact in one of the UIs."""

    text: str
    images: int
    over_the_edge: list[str]
    page: Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    chromium = next(filter(None, map(which, names)), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 2400})
    yield opened
    opened.close()


@pytest.fixture(params=["V1", "V2"])
def ui(request: pytest.FixtureRequest, prefect_server: PrefectServer) -> str:
    root = prefect_server.api_url.removesuffix("/api")
    return root if request.param == "V1" else f"{root}/v2"


@pytest.fixture(scope="module")
def model_host() -> Iterator[Emulator]:
    with Emulator(speed=20) as emulator:
        yield emulator


@pytest.fixture
def options(
    prefect_api: None, model_host: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Any]:
    monkeypatch.setenv("REPLICATE_API_TOKEN", model_host.token)
    monkeypatch.setenv("REPLICATE_BASE_URL", model_host.base_url)
    policy = PollPolicy(min_interval=0.05, max_interval=0.2)
    return {"destination": tmp_path, "policy": policy, "return_state": True}


def artifact(server: PrefectServer, state: Any, key: str) -> Artifact:
    flow_run_id: UUID = state.state_details.flow_run_id
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with server.client() as client:
        [found] = [one for one in client.read_artifacts(artifact_filter=of_run) if one.key == key]
    return found


def visit(page: Page, ui: str, shown: Artifact) -> Shown:
    page.goto(f"{ui}/artifacts/artifact/{shown.id}")
    page.get_by_text("Flow Run").last.wait_for()
    page.wait_for_function("() => [...document.images].every(image => image.complete)")
    page.wait_for_timeout(500)  # V2 draws Markdown in the next frame
    images, over = page.evaluate(VISIBLE_IMAGES), page.evaluate(OVER_THE_EDGE)
    return Shown(page.locator("body").inner_text(), images, over, page)


def test_a_video_is_seen_also_when_replicate_has_deleted_it(
    prefect_server: PrefectServer,
    model_host: Emulator,
    options: dict[str, Any],
    ui: str,
    page: Page,
) -> None:
    state = generate_video(ODD, duration=5, **options)
    model_host.clock.advance(7200)

    shown = visit(page, ui, artifact(prefect_server, state, "generated-video"))

    video = state.result(_sync=True)
    assert shown.images == 2
    assert shown.text.count(ODD) >= 2
    assert video.files[0].location in shown.text
    assert video.files[0].sha256 in shown.text
    assert "5.0 s, 480×270, 24 fps" in shown.text
    assert shown.over_the_edge == []


@pytest.mark.parametrize(
    ("model", "input", "images", "said"),
    [
        ("emulator/picture", {"prompt": "a fox", "num_outputs": 3}, 3, "a fox"),
        ("emulator/speech", {"text": "Good morning."}, 1, "kHz"),
        ("emulator/language", {"prompt": "What do foxes eat?"}, 0, "prediction"),
        ("emulator/embedding", {"text": "a fox"}, 0, "0."),
    ],
)
def test_an_output_of_each_kind_is_seen(
    prefect_server: PrefectServer,
    options: dict[str, Any],
    ui: str,
    page: Page,
    model: str,
    input: dict[str, Any],
    images: int,
    said: str,
) -> None:
    state = run_model(model, input, **options)

    shown = visit(page, ui, artifact(prefect_server, state, "model-output"))

    text = state.result(_sync=True).text
    assert shown.images == images
    assert said in shown.text
    assert text is None or " ".join(text.split()) in " ".join(shown.text.split())
    assert shown.over_the_edge == []


def test_a_batch_is_seen_as_a_table_of_plain_text_and_a_gallery(
    prefect_server: PrefectServer, options: dict[str, Any], ui: str, page: Page
) -> None:
    requests: list[Any] = [*[ODD] * 5, {"prompt": "a hare", "input": {"nonsense": "<b>x</b>"}}]

    state = generate_videos(requests, duration=2, raise_on_failure=False, **options)

    gallery = visit(page, ui, artifact(prefect_server, state, "generated-videos-gallery"))
    assert gallery.images == 5
    assert gallery.over_the_edge == []
    table = visit(page, ui, artifact(prefect_server, state, "generated-videos"))
    assert table.text.count("a fox & [an] (http://owl) ‹i›in‹/i› 'snow' | at night") == 5
    assert "6 items: 5 succeeded, 1 failed" in table.text
    assert page.locator("td i, td b, td code").count() == 0
