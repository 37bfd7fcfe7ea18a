"""What a video shows, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

LONGER_SIDE = 480


@dataclass(frozen=True)
class Scene:
    """A video to be drawn: the same scene always gives the same bytes.

    Args:
        ratio: Width and height, in any unit.
        image: Bytes of a picture that the video starts from, as PNG, JPEG or WebP.
    """

    prompt: str
    model: str
    seconds: float
    seed: int
    ratio: tuple[float, float] = (16, 9)
    fps: int = 24
    image: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, both even as H.264's yuv420p wants them."""
        scale = LONGER_SIDE / max(self.ratio)
        width, height = (max(2, round(side * scale / 2) * 2) for side in self.ratio)
        return width, height

    @property
    def frames(self) -> int:
        """The number of frames, at least one."""
        return max(1, round(self.seconds * self.fps))
