"""The files of an output: which of its strings they are, and what they are called."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from prefect_replicate.outputs.failure import Refused

# A URL is a file only where it is the whole string: models that write text write links too.
_REMOTE = re.compile(r"https?://\S+", re.IGNORECASE)
_INLINE = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?[;,]", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[\w-]+")


class FoundFile(NamedTuple):
    """A file of the output, and where in it the file stands."""

    path: str
    """`""` for the whole output, `"[1]"`, `"video.url"`, `"frames[0].image"`."""
    url: str


def collect_files(output: Any) -> list[FoundFile]:
    """Walk an output of any shape; every other string is text and is left out."""
    return [
        FoundFile(path, leaf)
        for path, leaf in _leaves(output, "")
        if isinstance(leaf, str) and (_REMOTE.fullmatch(leaf) or _INLINE.match(leaf))
    ]


def is_inline(url: str) -> bool:
    return url[:5].lower() == "data:"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _leaves(item, _member(path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _member(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class InlineFile(NamedTuple):
    """A decoded `data:` URI."""

    media_type: str
    content: bytes


def decode_data_uri(uri: str) -> InlineFile:
    """Read a `data:` URI, base64 or percent-encoded.

    Raises:
        Refused: It is malformed.
    """
    header, comma, body = uri[len("data:") :].partition(",")
    if not comma:
        raise Refused("its data URI has no comma before the data")
    if _BROKEN_ESCAPE.search(body):
        raise Refused("its data URI has a broken percent-escape")
    media_type, *parameters = (part.strip().lower() for part in header.split(";"))
    content = unquote_to_bytes(body)
    if "base64" in parameters:
        content = _decode_base64(content)
    return InlineFile(media_type or "text/plain", content)


def _decode_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as exc:
        raise Refused(f"its data URI is not valid base64 ({exc})") from exc


_EXTENSION_OF = {
    "application/json": "json",
    "application/pdf": "pdf",
    "application/x-subrip": "srt",
    "application/zip": "zip",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "image/avif": "avif",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tiff",
    "image/webp": "webp",
    "model/gltf-binary": "glb",
    "model/obj": "obj",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/vtt": "vtt",
    "video/mp4": "mp4",
    "video/mpeg": "mpg",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
}
_MEDIA_TYPE_OF = {extension: media_type for media_type, extension in _EXTENSION_OF.items()}
_MEDIA_TYPE_OF["jpeg"] = "image/jpeg"
_SAME_AS = {
    "application/x-zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
    "audio/vnd.wave": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-wav": "audio/wav",
    "binary/octet-stream": "application/octet-stream",
    "image/jpg": "image/jpeg",
    "video/x-m4v": "video/mp4",
}
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+")
_USER = re.compile(r"//[^/]*@")
_PREDICTION_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

UNKNOWN = "application/octet-stream"


def is_usable_id(prediction_id: str) -> bool:
    """Whether the id can stand in a file name; Replicate's own always can."""
    return _PREDICTION_ID.fullmatch(prediction_id) is not None


def stems(prediction_id: str, count: int) -> list[str]:
    """Names without extension: the id, numbered from 1 where there are several files."""
    if count == 1:
        return [prediction_id]
    return [f"{prediction_id}-{number}" for number in range(1, count + 1)]


def media_type_of(content_type: str | None, url: str) -> str:
    """The media type that a server states, or that the URL's suffix stands for.

    `application/octet-stream` says no more than a missing header does.
    """
    essence = (content_type or "").partition(";")[0].strip().lower()
    essence = _SAME_AS.get(essence, essence)
    if essence == UNKNOWN or not _MEDIA_TYPE.fullmatch(essence):
        return media_type_of_suffix(without_query(url)) or UNKNOWN
    return essence


def media_type_of_suffix(name: str) -> str | None:
    return _MEDIA_TYPE_OF.get(PurePosixPath(name).suffix[1:].lower())


def extension_for(media_type: str, url: str) -> str:
    """The media type's extension, else the URL's own if it is a known one, else `bin`."""
    if known := _EXTENSION_OF.get(media_type):
        return known
    suffix = PurePosixPath(without_query(url)).suffix[1:].lower()
    return suffix if suffix in _MEDIA_TYPE_OF else "bin"


def without_query(url: str) -> str:
    """A URL as messages and results show it: no query, which may be a signature; no data."""
    if is_inline(url):
        return "data:"
    return _USER.sub("//", re.split(r"[?#]", url, maxsplit=1)[0])
