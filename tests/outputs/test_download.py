import asyncio
import errno
import hashlib
import os
import random
import resource
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from prefect_replicate.exceptions import OutputError
from prefect_replicate.outputs import TransferPolicy
from prefect_replicate.outputs.part import PartFile
from prefect_replicate.values.output import OutputSchema

from .conftest import content_of, names

URLS = OutputSchema(rules={"type": "array", "items": {"type": "string", "format": "uri"}})
CONTENT = random.Random(1).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def test_a_video_is_stored_whole_under_our_own_name(host, store, prediction, tmp_path):
    url = host.add("/pbxt/output.mp4", CONTENT)

    (file,) = await store(prediction(url), tmp_path / "new" / "folder")

    assert content_of(file) == CONTENT
    assert file.location == str(tmp_path / "new" / "folder" / "abc123.mp4")
    assert (file.output_path, file.source, file.media_type) == ("", url, "video/mp4")
    assert (file.size, file.sha256) == (len(CONTENT), SHA256)
    assert names(tmp_path / "new" / "folder") == ["abc123.mp4"]


async def test_several_files_come_back_in_output_order(host, store, prediction, tmp_path):
    video, image = host.add("/v", b"v" * 9), host.add("/i", b"i", content_type="image/png")

    files = await store(prediction({"video": video, "stills": [image, image]}), tmp_path)

    assert [file.output_path for file in files] == ["video", "stills[0]", "stills[1]"]
    assert [Path(file.location).name for file in files] == [
        "abc123-1.mp4",
        "abc123-2.png",
        "abc123-2.png",
    ]
    assert len(host.requests) == 2


async def test_a_data_uri_is_stored_like_any_file(store, prediction, tmp_path):
    (file,) = await store(prediction("data:image/png;base64,iVBORw=="), tmp_path)

    assert content_of(file) == b"\x89PNG"
    assert (Path(file.location).name, file.source) == ("abc123.png", "data:")


async def test_a_malformed_data_uri_is_named_without_its_data(store, prediction, tmp_path):
    with pytest.raises(OutputError, match=r"abc123 .* not valid base64") as raised:
        await store(prediction(["data:image/png;base64,c2VjcmV0!"]), tmp_path)

    assert "c2VjcmV0" not in str(raised.value)
    assert names(tmp_path) == []


async def test_a_broken_connection_is_resumed_where_it_broke(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    host.breaks_off(after=1_000_000)
    host.breaks_off(after=500_000)

    (file,) = await store(prediction(url), tmp_path)

    assert file.sha256 == SHA256 == hashlib.sha256(content_of(file)).hexdigest()
    assert host.ranges == [None, "bytes=1000000-", "bytes=1500000-"]
    assert host.requests[1].headers["if-range"] == '"v1"'


async def test_a_later_call_resumes_what_an_earlier_one_left(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    host.breaks_off(after=1_000_000)
    with pytest.raises(OutputError, match="the part received so far is kept"):
        await store(prediction(url), tmp_path, policy=TransferPolicy(download_attempts=1))
    assert names(tmp_path) == [".abc123.part", ".abc123.part.etag"]

    (file,) = await store(prediction(url), tmp_path)

    assert host.ranges == [None, "bytes=1000000-"]
    assert content_of(file) == CONTENT
    assert names(tmp_path) == ["abc123.mp4"]


async def test_a_file_that_changed_meanwhile_is_fetched_anew(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", b"old" * 1000)
    host.breaks_off(after=1000)
    with pytest.raises(OutputError, match="could not be downloaded"):
        await store(prediction(url), tmp_path, policy=TransferPolicy(download_attempts=1))
    host.add("/a.mp4", CONTENT, etag='"v2"')

    (file,) = await store(prediction(url), tmp_path)

    assert content_of(file) == CONTENT


async def test_a_host_without_etags_is_never_resumed(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT, etag=None)
    host.breaks_off(after=1_000_000)

    (file,) = await store(prediction(url), tmp_path)

    assert host.ranges == [None, None]
    assert file.sha256 == SHA256


async def test_a_host_that_ignores_ranges_restarts_cleanly(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    host.breaks_off(after=1_000_000)
    host.ignores_range()

    (file,) = await store(prediction(url), tmp_path)

    assert content_of(file) == CONTENT
    assert file.sha256 == SHA256


@pytest.mark.parametrize(
    ("status", "headers"), [(416, {}), (206, {"Content_Range": "bytes 0-9/10"})]
)
async def test_a_range_that_does_not_fit_restarts_cleanly(
    host, store, prediction, tmp_path, status: int, headers: dict[str, str]
):
    url = host.add("/a.mp4", CONTENT)
    host.breaks_off(after=1_000_000)
    host.answers(status, **headers)

    (file,) = await store(prediction(url), tmp_path)

    assert host.ranges == [None, "bytes=1000000-", None]
    assert file.sha256 == SHA256


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_host_in_trouble_is_asked_again(host, store, prediction, tmp_path, status: int):
    url = host.add("/a.mp4", CONTENT)
    host.answers(status, Retry_After="0")

    (file,) = await store(prediction(url), tmp_path)

    assert file.sha256 == SHA256


async def test_a_refusal_is_not_repeated(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    host.answers(403)

    with pytest.raises(OutputError, match=r"abc123 succeeded and is paid for.* answered HTTP 403"):
        await store(prediction(f"{url}?signature=secret"), tmp_path)

    assert len(host.requests) == 1
    assert names(tmp_path) == []


async def test_attempts_end_with_one_clear_line(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    for _ in range(4):
        host.answers(503)

    with pytest.raises(OutputError, match=r"abc123 .*HTTP 503.*nothing is paid again") as raised:
        await store(prediction(f"{url}?signature=secret"), tmp_path)

    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_the_total_time_ends_the_attempts(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    host.answers(503)

    with pytest.raises(OutputError, match="HTTP 503"):
        await store(prediction(url), tmp_path, policy=TransferPolicy(total_time=0))

    assert len(host.requests) == 1


async def test_one_failing_file_does_not_lose_the_others(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)

    with pytest.raises(
        OutputError, match=r"output \[0\]\) was not stored: its host elsew"
    ) as failed:
        await store(prediction(["http://elsewhere/a.mp4", url]), tmp_path, schema=URLS)

    assert str(failed.value).endswith(" 1 of 2 files are stored.")
    assert [Path(one.location).name for one in failed.value.files] == ["abc123-2.mp4"]
    assert (tmp_path / "abc123-2.mp4").read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_a_cancelled_download_leaves_only_what_can_be_resumed(
    host, store, prediction, tmp_path, how: str
):
    url = host.add("/a.mp4", CONTENT)
    host.stalls(after=1_500_000)
    scope, written = anyio.CancelScope(), asyncio.Event()

    async def run() -> None:
        with scope:
            await store(prediction(url), tmp_path, on_progress=lambda *_: written.set())

    task = asyncio.create_task(run())
    with anyio.fail_after(5):
        await host.stalled.wait()
        await written.wait()

    task.cancel() if how == "task" else scope.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert names(tmp_path) == [".abc123.part", ".abc123.part.etag"]
    assert CONTENT.startswith((tmp_path / ".abc123.part").read_bytes())
    (file,) = await store(prediction(url), tmp_path)
    assert file.sha256 == SHA256
    assert host.ranges[-1] is not None


async def test_two_downloads_into_one_folder_do_not_disturb_each_other(
    host, store, prediction, tmp_path
):
    url = host.add("/a.mp4", CONTENT)
    for _ in range(4):
        host.breaks_off(after=300_000)

    stored = await asyncio.gather(*(store(prediction(url), tmp_path) for _ in range(5)))

    assert {file.sha256 for (file,) in stored} == {SHA256}
    assert (tmp_path / "abc123.mp4").read_bytes() == CONTENT
    assert names(tmp_path) == ["abc123.mp4"]


async def test_a_part_that_another_process_holds_is_left_alone(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)
    held = PartFile(tmp_path, "abc123")
    held.open()
    held.restart('"v1"')
    held.write(b"not ours")

    (file,) = await store(prediction(url), tmp_path)

    assert file.sha256 == SHA256
    assert (tmp_path / ".abc123.part").read_bytes() == b"not ours"
    held.discard()


async def test_progress_is_the_sum_over_all_files(host, store, prediction, tmp_path):
    urls = [host.add("/a", CONTENT), host.add("/b", CONTENT)]
    seen: list[tuple[int, int | None]] = []

    await store(prediction(urls), tmp_path, on_progress=lambda *numbers: seen.append(numbers))

    assert seen == sorted(seen, key=lambda numbers: numbers[0])
    assert seen[0][1] is None
    assert seen[-1] == (2 * len(CONTENT), 2 * len(CONTENT))


async def test_memory_does_not_grow_with_the_file(host, store, prediction, tmp_path):
    content = bytes(100_000_000)
    url = host.add("/a.mp4", memoryview(content))
    tracemalloc.start()
    try:
        (file,) = await store(prediction(url), tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert file.size == len(content)
    assert peak < 32_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_one_clear_line_and_is_not_kept_full(
    host, store, prediction, small_disk
):
    url = host.add("/a.mp4", CONTENT)

    with pytest.raises(OutputError, match=r"abc123 .*No space left on device. Make room") as raised:
        await store(prediction(url), small_disk)

    assert "\n" not in str(raised.value)
    assert len(host.requests) == 1
    assert names(small_disk) == []


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("file_size_limit")
async def test_a_file_size_limit_leaves_nothing_half_written(host, store, prediction, tmp_path):
    url = host.add("/a.mp4", CONTENT)

    with pytest.raises(OutputError, match=os.strerror(errno.EFBIG)):
        await store(prediction(url), tmp_path)

    assert names(tmp_path) == []


def test_a_part_whose_bytes_have_no_etag_begins_anew(tmp_path: Path) -> None:
    (tmp_path / ".x.part").write_bytes(b"of unknown origin")
    part = PartFile(tmp_path, "x")

    part.open()

    assert part.size == 0
    part.close()
    assert names(tmp_path) == []
