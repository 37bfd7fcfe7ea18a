"""Finds the picture that a video starts from, if its bytes are available locally."""

from __future__ import annotations

import base64
import binascii
import urllib.parse

from prefect_replicate.emulator.uploads import Uploads


def first_frame(url: object, uploads: Uploads, now: float, lifetime: float) -> bytes | None:
    """Return the bytes of a `data:` URI or of the URL of an uploaded file; else `None`.

    The emulator downloads nothing: a picture stored elsewhere is not shown.
    """
    if not isinstance(url, str):
        return None
    if url.startswith("data:"):
        return _data(url)
    _, slash, upload_id = url.rpartition("/v1/files/")
    upload = uploads.find(urllib.parse.unquote(upload_id), now, lifetime) if slash else None
    return upload.content if upload else None


def _data(uri: str) -> bytes | None:
    head, _, payload = uri.partition(",")
    if not head.endswith(";base64"):
        return urllib.parse.unquote_to_bytes(payload)
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error:
        return None
