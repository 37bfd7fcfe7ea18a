import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import replicate

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.delivery import parse_range
from prefect_replicate.emulator.uploads import SIZE_LIMIT, sign_download


def upload(api: httpx.Client, content: bytes = b"hello") -> Any:
    files = {
        "content": ("a.txt", content, "text/plain"),
        "metadata": (None, '{"shot": 3}', "application/json"),
    }
    reply = api.post("/files", files=files)
    assert reply.status_code == 201, reply.text
    return reply.json()


def noise(api: httpx.Client, size: int) -> str:
    asked = {"version": "emulator/timer", "input": {"output_bytes": size}}
    created = api.post("/predictions", json=asked).json()
    return api.get(f"/predictions/{created['id']}").json()["output"]


def test_an_upload_is_described_with_its_checksums(api: httpx.Client) -> None:
    uploaded = upload(api)

    assert uploaded["checksums"]["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert (uploaded["name"], uploaded["size"], uploaded["metadata"]) == ("a.txt", 5, {"shot": 3})
    assert api.get(uploaded["urls"]["get"]).json() == uploaded
    assert [one["id"] for one in api.get("/files").json()["results"]] == [uploaded["id"]]


def test_a_deleted_upload_is_gone(api: httpx.Client) -> None:
    url = upload(api)["urls"]["get"]

    assert api.delete(url).status_code == 204
    assert api.get(url).json() == {"detail": "File not found", "status": 404}


def test_an_upload_expires_after_a_day(api: httpx.Client, still: Emulator) -> None:
    url = upload(api)["urls"]["get"]
    still.clock.advance(24 * 3600)

    assert api.get(url).status_code == 404


def test_a_signed_url_needs_no_token(api: httpx.Client, replicate_emulator: Emulator) -> None:
    uploaded = upload(api)
    secret = replicate_emulator._running.signing_secret  # the API does not tell it
    expiry = int(replicate_emulator.clock.now()) + 60
    query = {"owner": "acme", "expiry": expiry}
    signature = sign_download(secret, "acme", uploaded["id"], expiry)
    url = f"{uploaded['urls']['get']}/download"

    assert httpx.get(url, params={**query, "signature": signature}).content == b"hello"
    assert httpx.get(url, params={**query, "signature": "forged"}).status_code == 404


@pytest.mark.parametrize("size", [1001, 2_000_000], ids=["as-parsed", "by-its-header"])
def test_an_upload_over_100_mb_is_refused(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    assert SIZE_LIMIT == 100_000_000
    # To send 100 MB takes a second.
    monkeypatch.setattr("prefect_replicate.emulator.api.files.SIZE_LIMIT", 1000)

    reply = api.post("/files", files={"content": bytes(size)})

    assert reply.status_code == 413
    assert reply.json()["detail"] == "Files must be less than 100MB in size"


@pytest.mark.parametrize("files", [{"other": b"x"}, {"content": b"x", "metadata": (None, "{")}])
def test_an_upload_that_makes_no_sense_is_refused(api: httpx.Client, files: Any) -> None:
    assert api.post("/files", files=files).status_code in (400, 422)


def test_the_official_client_uploads_a_file_input(
    replicate_emulator: Emulator, tmp_path: Path
) -> None:
    client = replicate.Client(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )
    picture = tmp_path / "a.txt"
    picture.write_text("not really a picture")

    with picture.open("rb") as file:
        asked = {"prompt": "x", "start_image": file}
        created = client.models.predictions.create("kwaivgi/kling-v2.1", input=asked)

    assert created.input is not None
    assert created.input["start_image"].startswith(f"{replicate_emulator.base_url}/v1/files/")
    assert [one.name for one in client.files.list()] == ["a.txt"]


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=90-500", (90, 100)),
        ("bytes=100-", (100, 100)),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
    ],
)
def test_ranges_are_read(header: str | None, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == part


def test_outputs_come_from_another_origin_with_the_recorded_headers(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    url = noise(api, 3_000_000)
    reply = httpx.get(url)

    assert url.startswith(replicate_emulator.files_url) != url.startswith(str(api.base_url))
    assert len(reply.content) == 3_000_000
    assert reply.headers["cache-control"] == "public, max-age=3600"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert httpx.head(url).headers["content-length"] == "3000000"


def test_a_part_of_a_file_is_the_same_part_of_the_whole(api: httpx.Client) -> None:
    url = noise(api, 3_000_000)
    whole = httpx.get(url).content
    part = httpx.get(url, headers={"range": "bytes=1048570-2097160"})

    assert part.status_code == 206
    assert part.headers["content-range"] == "bytes 1048570-2097160/3000000"
    assert part.content == whole[1048570:2097161]


def test_a_range_beyond_the_end_is_416(api: httpx.Client) -> None:
    reply = httpx.get(noise(api, 10), headers={"range": "bytes=10-"})

    assert (reply.status_code, reply.headers["content-range"]) == (416, "bytes */10")


def test_a_range_of_a_file_that_changed_gets_the_whole(api: httpx.Client) -> None:
    url = noise(api, 10)
    headers = {"range": "bytes=5-", "if-range": '"another"'}

    assert httpx.get(url, headers=headers).status_code == 200


def test_a_token_that_reaches_the_file_host_is_recorded(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    url = noise(api, 10)
    httpx.get(url)
    assert replicate_emulator.requests.file_authorizations == []

    httpx.get(url, headers={"authorization": "Bearer leaked"})

    assert replicate_emulator.requests.file_authorizations == ["Bearer leaked"]


def test_a_file_is_not_there_before_its_prediction_succeeded(
    api: httpx.Client, still: Emulator
) -> None:
    created = api.post(
        "/predictions", json={"version": "emulator/timer", "input": {"seconds": 9}}
    ).json()
    still.clock.advance(9)
    url = api.get(f"/predictions/{created['id']}").json()["output"]

    assert httpx.get(url).status_code == 200
    assert httpx.get(url.replace("output.txt", "other.txt")).status_code == 404


def test_a_removed_file_can_be_410(api: httpx.Client, still: Emulator) -> None:
    still.behave(gone_status=410, retention=60)
    url = noise(api, 10)
    still.clock.advance(60)

    assert httpx.get(url).status_code == 410
