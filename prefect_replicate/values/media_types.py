"""The kind of a file, from its media type, URL, name or first bytes."""

from __future__ import annotations

import mimetypes
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

UNKNOWN = "application/octet-stream"

_EXTENSION_OF = {
    "application/json": "json",
    "application/pdf": "pdf",
    "application/x-subrip": "srt",
    "application/x-tar": "tar",
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
_MEDIA_TYPE_OF = {
    **{extension: media_type for media_type, extension in _EXTENSION_OF.items()},
    "htm": "text/html",
    "jpeg": "image/jpeg",
    "m4v": "video/mp4",
    "oga": "audio/ogg",
}
_STANDARD = mimetypes.MimeTypes().types_map[True]
"""Python's own types, not the machine's."""

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
_GENERIC = {UNKNOWN, "application/json", "application/zip", "application/gzip", "text/plain"}
"""A name often says more than these: `.safetensors`, `.npz`, `.md`."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+")
_SUFFIX = re.compile(r"(?:tar\.)?[a-z0-9]{1,11}")
_NAMED = re.compile(r"""filename\*?=(?:[\w-]+''|")?([^";]+)""", re.IGNORECASE)


def media_type_of(content_type: str | None, name: str) -> str:
    """Return the media type that a server states, or else that of a URL's or file's suffix.

    `application/octet-stream` says no more than a missing header does.
    """
    essence = (content_type or "").partition(";")[0].strip().lower()
    essence = _SAME_AS.get(essence, essence)
    if essence == UNKNOWN or not _MEDIA_TYPE.fullmatch(essence):
        return media_type_of_suffix(name) or UNKNOWN
    return essence


def media_type_of_suffix(name: str) -> str | None:
    """Return the media type of a file name or URL, the same on every machine."""
    suffix = _suffix_of(name)
    return _MEDIA_TYPE_OF.get(suffix) or _STANDARD.get(f".{suffix}")


_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF....WEBP", "image/webp"),
    (b"RIFF....WAVE", "audio/wav"),
    (b"RIFF....AVI ", "video/x-msvideo"),
    (b"....ftypM4A", "audio/mp4"),
    (b"....ftypqt", "video/quicktime"),
    (b"....ftypavif", "image/avif"),
    (b"....ftyp", "video/mp4"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"glTF", "model/gltf-binary"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)
"""A dot stands for any byte."""


def media_type_of_content(content: bytes) -> str:
    """Return the media type that the first bytes of a file indicate."""
    for beginning, media_type in _BEGINNINGS:
        head = content[: len(beginning)]
        if len(head) == len(beginning) and all(
            expected in (found, ord(".")) for expected, found in zip(beginning, head, strict=True)
        ):
            return media_type
    return UNKNOWN


def extension_for(media_type: str, url: str, disposition: str | None = None) -> str:
    """Return a file's extension, without the dot.

    Args:
        media_type: As `media_type_of` returns it.
        url: The URL it came from.
        disposition: Its `Content-Disposition` header, which may name it.
    """
    if (known := _EXTENSION_OF.get(media_type)) and media_type not in _GENERIC:
        return known
    named = _NAMED.search(disposition or "")
    return (named and _suffix_of(unquote(named[1]))) or _suffix_of(url) or known or "bin"


def _suffix_of(name: str) -> str:
    """Return the part of a name or URL after the last dot; empty if there is none."""
    if name[:5].lower() == "data:":
        return ""
    try:
        path = unquote(urlsplit(name).path) if "://" in name else name
    except ValueError:
        return ""
    suffixes = [one[1:].lower() for one in PurePosixPath(path).suffixes[-2:]]
    whole = ".".join(suffixes if suffixes[:-1] == ["tar"] else suffixes[-1:])
    return whole if _SUFFIX.fullmatch(whole) else ""
