"""Files that clients upload through the files API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect_replicate.emulator.timestamps import format_time

SIZE_LIMIT = 100 * 1000 * 1000


@dataclass(frozen=True)
class Upload:
    """One uploaded file."""

    id: str
    name: str
    content_type: str
    content: bytes
    metadata: Mapping[str, Any]
    created_at: float

    def body(self, base_url: str, lifetime: float) -> dict[str, Any]:
        """Return the file as the API describes it."""
        md5 = hashlib.md5(self.content).hexdigest()
        return {
            "id": self.id,
            "name": self.name,
            "content_type": self.content_type,
            "size": len(self.content),
            "etag": md5,
            "checksums": {"sha256": hashlib.sha256(self.content).hexdigest(), "md5": md5},
            "metadata": self.metadata,
            "created_at": format_time(self.created_at, 3),
            "expires_at": format_time(self.created_at + lifetime, 3),
            "urls": {"get": f"{base_url}/v1/files/{self.id}"},
        }


@dataclass
class Uploads:
    """The uploaded files of one account."""

    _files: dict[str, Upload] = field(default_factory=dict[str, Upload])

    def add(
        self, name: str, content_type: str, content: bytes, metadata: Mapping[str, Any], now: float
    ) -> Upload:
        """Keep a file under a new id, the base64 of a UUID."""
        upload_id = base64.b64encode(str(uuid.uuid4()).encode()).decode()
        upload = Upload(upload_id, name, content_type, content, metadata, now)
        self._files[upload_id] = upload
        return upload

    def live(self, now: float, lifetime: float) -> list[Upload]:
        """Return the files that have not expired, newest first."""
        kept = [one for one in self._files.values() if now < one.created_at + lifetime]
        return kept[::-1]

    def find(self, upload_id: str, now: float, lifetime: float) -> Upload | None:
        """Return the file with this id, unless it has expired."""
        upload = self._files.get(upload_id)
        return upload if upload and now < upload.created_at + lifetime else None

    def remove(self, upload_id: str) -> None:
        """Delete the file with this id."""
        self._files.pop(upload_id, None)

    def clear(self) -> None:
        """Delete all files."""
        self._files.clear()


def sign_download(secret: bytes, owner: str, upload_id: str, expiry: int) -> str:
    """Return the signature that lets its bearer download a file without a token."""
    signed = hmac.new(secret, f"{owner} {upload_id} {expiry}".encode(), hashlib.sha256)
    return base64.b64encode(signed.digest()).decode()
