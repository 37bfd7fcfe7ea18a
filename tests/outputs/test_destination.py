import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import BlockDocument
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.outputs import check_destination


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    await check_destination(str(tmp_path / "a" / "b"))

    assert (tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("", "is not a folder"),
        ("http://host/videos", "host/videos' can't be written to: http is not a storage protocol"),
        ("ftp://me:secret@host/x", "names a user or password, which would be shown"),
        ("nothing://host/videos", "nothing is not a storage protocol; use a folder, a URL such as"),
        ("s3://bucket/videos", "can't open 's3://bucket/videos': .* missing a Python module"),
        ("block:local-file-system", "is not 'block:<type-slug>/<name>'"),
        ("block:a/b/c", "is not 'block:<type-slug>/<name>'"),
        (b"bytes", "A bytes can't be a destination"),
        (Secret(value="x"), "A Secret can't be a destination"),
        ("null\0byte", "can't be written to"),
        ("~nobody-of-this-name/x", "can't be written to"),
    ],
)
async def test_what_is_no_destination_is_refused_before_anything_is_paid(
    destination: Any, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        await check_destination(destination)


async def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="file' can't be written to: File exists"):
        await check_destination(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="can't be written to: Not a directory"):
        await check_destination(tmp_path / "file" / "below")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write")
async def test_an_unwritable_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'/proc/self/videos' can't be written to"):
        await check_destination("/proc/self/videos")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    await anyio.Path(tmp_path).chmod(0o500)

    with pytest.raises(ConfigurationError, match="Permission denied"):
        await check_destination(tmp_path)


async def test_a_local_block_is_checked_like_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="File exists"):
        await check_destination(LocalFileSystem(basepath=str(tmp_path / "file")))


@pytest.mark.usefixtures("prefect_home")
async def test_a_remote_block_without_its_library_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="RemoteFileSystem can't open 'nosuch://x'"):
        await check_destination(RemoteFileSystem(basepath="nosuch://x"))


async def test_a_block_needs_room_for_the_files_until_it_has_them(prefect_home: Path) -> None:
    await anyio.Path(prefect_home).touch()

    with pytest.raises(ConfigurationError, match="replicate-outputs' can't be written to"):
        await check_destination(RemoteFileSystem(basepath="memory://x"))


def serve_block(host: Any, block: Block, name: str) -> None:
    """Let `host` answer as Prefect's API does when a block is loaded."""
    schema, kind = block._to_block_schema(), block._to_block_type()
    document = BlockDocument(
        name=name,
        data=block.model_dump(),
        block_schema=schema,
        block_schema_id=schema.id,
        block_type=kind,
        block_type_id=kind.id,
    )
    body = document.model_dump_json().encode()
    path = f"/api/block_types/slug/{kind.slug}/block_documents/name/{name}?include_secrets=true"
    host.add(path, body, content_type="application/json")
    host.add("/api/admin/version", b'"3.8.8"', content_type="application/json")


@pytest.fixture
def no_events() -> Iterator[None]:
    """Loading a block emits an event, to a server that `host` is not."""
    EventsWorker.set_client_override(NullEventsClient)
    yield
    EventsWorker.set_client_override(None)


@pytest.mark.usefixtures("no_events")
async def test_a_saved_block_is_named_by_its_slug(host, store, prediction, tmp_path: Path) -> None:
    serve_block(host, LocalFileSystem(basepath=str(tmp_path / "videos")), "my-videos")

    with temporary_settings({PREFECT_API_URL: f"{host.url}/api"}):
        (file,) = await store(prediction("data:,x"), "block:local-file-system/my-videos")

    assert file.location == str(tmp_path / "videos" / "abc123.txt")


@pytest.mark.usefixtures("connects_at_once")
@pytest.mark.parametrize(
    ("api", "reason"), [("", "Unable to find"), ("http://127.0.0.1:1", "ConnectError")]
)
async def test_a_block_that_can_not_be_loaded_is_refused(host, api: str, reason: str) -> None:
    host.add("/api/admin/version", b'"3.8.8"', content_type="application/json")

    with (
        temporary_settings({PREFECT_API_URL: f"{api or host.url}/api"}),
        pytest.raises(ConfigurationError, match=f"local-file-system/nothing' can't be.*{reason}"),
    ):
        await check_destination("block:local-file-system/nothing")
