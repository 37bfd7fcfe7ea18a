import io
import wave
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import replicate
from PIL import Image

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.catalogue import default_catalogue
from prefect_replicate.emulator.models.kinds import kinds
from prefect_replicate.emulator.outputs import file_key

SOUND = "https://example.com/song.mp3"


@pytest.fixture
def client(replicate_emulator: Emulator) -> replicate.Client:
    return replicate.Client(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )


def created(api: httpx.Client, model: str, /, **values: Any) -> Any:
    found = default_catalogue().find_model(f"emulator/{model}")
    assert found is not None
    body = {"version": found.latest_version.id, "input": values}
    return api.post("/predictions", json=body).raise_for_status().json()


def finished(api: httpx.Client, still: Emulator, model: str, /, **values: Any) -> Any:
    prediction = created(api, model, **values)
    still.clock.advance(2)
    return api.get(f"/predictions/{prediction['id']}").json()


def output(api: httpx.Client, still: Emulator, model: str, /, **values: Any) -> Any:
    return finished(api, still, model, **values)["output"]


@pytest.mark.parametrize(("format", "name"), [({}, "WEBP"), ({"output_format": "png"}, "PNG")])
def test_pictures_are_real_and_of_the_format_and_shape_that_is_asked_for(
    api: httpx.Client, still: Emulator, format: dict[str, str], name: str
) -> None:
    asked = {"prompt": "x", "num_outputs": 2, "aspect_ratio": "3:2", **format}
    urls = output(api, still, "picture", **asked)

    replies = [httpx.get(url) for url in urls]
    pictures = [Image.open(io.BytesIO(reply.content)) for reply in replies]

    assert [(one.format, one.size) for one in pictures] == [(name, (480, 320))] * 2
    assert replies[0].headers["content-type"] == f"image/{name.lower()}"
    assert pictures[0].tobytes() != pictures[1].tobytes()


def test_the_same_seed_gives_the_same_picture(api: httpx.Client, still: Emulator) -> None:
    one, same, other = (
        httpx.get(output(api, still, "picture", prompt="x", seed=seed)[0]).content
        for seed in (7, 7, 8)
    )

    assert one == same != other


def test_in_sync_mode_a_picture_comes_as_a_data_uri(client: replicate.Client) -> None:
    (picture,) = client.run("emulator/picture", input={"prompt": "a red fox"})

    assert Image.open(io.BytesIO(picture.read())).format == "WEBP"
    assert picture.url.startswith("data:image/webp;base64,")


def growing(api: httpx.Client, still: Emulator, prediction: Any) -> Iterator[Any]:
    """The prediction as each of some polls shows it, until it has ended."""
    while prediction["status"] in ("starting", "processing"):
        prediction = api.get(f"/predictions/{prediction['id']}").json()
        yield prediction
        still.clock.advance(0.1)


def test_the_text_of_a_language_model_grows_while_it_runs(
    api: httpx.Client, still: Emulator
) -> None:
    prediction = created(api, "language", prompt="Why is the sky blue?")

    polls = list(growing(api, still, prediction))

    texts = ["".join(one.get("output") or []) for one in polls]
    assert "output" not in polls[0]
    assert texts[-1].startswith("You asked: Why is the sky blue?")
    assert all(longer.startswith(text) for text, longer in pairwise(texts))
    assert len(set(texts)) > 4


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_tokens": 3}, "You asked: on"),
        ({"stop_sequences": "two,one"}, "You asked:"),
        ({"stop_sequences": None, "max_tokens": 4}, "You asked: one two"),
        ({"max_tokens": 3.0}, "You asked: on"),
    ],
)
def test_a_language_model_stops_where_it_is_told_to(
    api: httpx.Client, still: Emulator, values: dict[str, Any], text: str
) -> None:
    prompt = "one two three"

    assert "".join(output(api, still, "language", prompt=prompt, **values)).startswith(text)


def test_a_canceled_language_model_keeps_what_it_had_written(
    api: httpx.Client, still: Emulator
) -> None:
    prediction = created(api, "language", prompt="Why?")
    still.clock.advance(0.2)

    canceled = api.post(f"/predictions/{prediction['id']}/cancel").json()

    assert canceled["status"] == "canceled"
    assert "".join(canceled["output"]).startswith("You asked: Why?")


def test_a_stream_sends_each_token_by_itself(client: replicate.Client) -> None:
    events = list(client.stream("emulator/language", input={"prompt": "Why?", "seed": 1}))

    texts = [str(one) for one in events if one.event.value == "output"]
    assert len(texts) > 20
    assert "".join(texts).startswith("You asked: Why?\n\n")


def test_official_models_report_what_is_billed(api: httpx.Client, still: Emulator) -> None:
    pictures = finished(api, still, "picture", prompt="x", num_outputs=3)["metrics"]
    text = finished(api, still, "language", prompt="a b c", max_tokens=5)["metrics"]

    assert pictures["image_output_count"] == 3
    assert (text["token_input_count"], text["token_output_count"]) == (8, 5)


def seconds_of(url: str) -> float:
    with wave.open(io.BytesIO(httpx.get(url).content)) as sound:
        return sound.getnframes() / sound.getframerate()


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({"text": "one two three four"}, 1.2),
        ({"text": "one two three four", "speed": 2}, 0.6),
        ({"text": "one " * 20}, 6.0),
        ({"text": ""}, 0.3),
    ],
)
def test_speech_is_a_real_wav_as_long_as_its_text(
    api: httpx.Client, still: Emulator, values: dict[str, Any], seconds: float
) -> None:
    assert seconds_of(output(api, still, "speech", **values)) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    ("values", "count"),
    [({"text": "a"}, 1), ({"texts": ["a", "b"]}, 2), ({"text": None, "texts": ["a"]}, 1)],
)
def test_an_embedding_is_a_vector_of_length_1_for_each_text(
    api: httpx.Client, still: Emulator, values: dict[str, Any], count: int
) -> None:
    vectors = output(api, still, "embedding", **values)

    assert [sum(x * x for x in one) for one in vectors] == pytest.approx([1.0] * count, abs=1e-4)
    assert vectors[0] == output(api, still, "embedding", text="a")[0]


def test_an_embedding_of_nothing_fails(api: httpx.Client, still: Emulator) -> None:
    ended = finished(api, still, "embedding")

    assert (ended["status"], ended["error"]) == ("failed", "Neither text nor texts was given")


def test_separation_returns_several_named_files(api: httpx.Client, still: Emulator) -> None:
    stems = output(api, still, "separation", audio=SOUND)

    assert {name: seconds_of(url) for name, url in stems.items()} == {
        "vocals": 2.0, "drums": 2.0, "other": 2.0,
    }  # fmt: skip


def test_separation_can_leave_a_file_out(api: httpx.Client, still: Emulator) -> None:
    stems = output(api, still, "separation", audio=SOUND, only_vocals=True)

    assert stems["drums"] is None
    assert {stems[one].rpartition("/")[2] for one in ("vocals", "other")} == {
        "vocals.wav", "other.wav",
    }  # fmt: skip


def test_oddities_returns_what_it_received_without_the_secret(
    api: httpx.Client, still: Emulator
) -> None:
    sent = {
        "name": "x", "api_key": "hunter2", "note": None, "amount": None, "files": None,
        "image": "data:image/png;base64,AAAA", "tags": ["a", "b"], "size": 1024, "mode": None,
        "model": "large", "input": "deep",
    }  # fmt: skip
    ended = finished(api, still, "oddities", **sent)

    assert ended["output"]["received"] == {
        **sent, "api_key": "[REDACTED]", "image": "data:image/png;base64,...",
    }  # fmt: skip
    assert "hunter2" not in str(ended)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": None}, "name: Invalid type. Expected: string, given: null"),
        ({"model": None}, "model: Invalid type. Expected: string, given: null"),
        ({"tags": None}, "tags: Invalid type. Expected: array, given: null"),
        ({"tags": "a"}, "tags: Invalid type. Expected: array, given: string"),
        ({"tags": [1]}, "tags.0: Invalid type. Expected: string, given: integer"),
        ({"files": ["a.png"]}, "files.0: Does not match format 'uri'"),
        ({"size": None}, "size: Invalid type. Expected: integer, given: null"),
        ({"size": "512"}, "size: Invalid type. Expected: integer, given: string"),
        ({"size": 300}, "size: size must be one of the following: 256, 512, 1024"),
        ({"mode": "slow"}, 'mode: mode must be one of the following: "fast", "best"'),
        ({"amount": 101}, "amount: Must be less than or equal to 100"),
    ],
)
def test_oddities_refuses_what_its_schema_does_not_allow(
    api: httpx.Client, values: dict[str, Any], problem: str
) -> None:
    found = default_catalogue().find_model("emulator/oddities")
    assert found is not None
    body = {"version": found.latest_version.id, "input": {"name": "x", **values}}

    reply = api.post("/predictions", json=body)

    assert reply.status_code == 422
    assert f"- input.{problem}\n" in reply.json()["detail"]


@pytest.mark.parametrize("model", kinds(), ids=lambda one: one.name)
def test_only_official_models_run_by_their_name(api: httpx.Client, model: Any) -> None:
    values = {"prompt": "x", "text": "x", "audio": SOUND, "name": "x"}
    reply = api.post(f"/models/{model.full_name}/predictions", json={"input": values})

    assert reply.status_code == (201 if model.is_official else 404)


def test_the_page_of_a_prediction_shows_its_pictures_and_sounds(
    api: httpx.Client, still: Emulator
) -> None:
    picture = finished(api, still, "picture", prompt="x")
    speech = finished(api, still, "speech", text="x")

    pages = [httpx.get(one["urls"]["web"]).text for one in (picture, speech)]

    assert f'/{file_key(picture["id"], 0)}/out-0.webp" alt="">' in pages[0]
    assert f'<audio controls src="{speech["output"]}">' in pages[1]
