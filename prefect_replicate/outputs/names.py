"""What a stored file is called: never by a name that a server chose."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from prefect_replicate.outputs.collect import is_inline

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
