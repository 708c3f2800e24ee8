"""How colours are decoded and tagged, by name; :mod:`prep.conversion` converts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prep.timeline import VideoInfo

#: How frames become RGB. ``exact``: by the tags of matrix and range, accurately rounded, with interpolated chroma, the
#: same bytes on every processor. ``opencv``: BT.601 whatever the tags, as OpenCV's reader before 4.13, bit for bit.
Pixels = Literal["exact", "opencv"]
#: The matrix by which ``exact`` decodes: the one that the file is tagged with, or this one whatever the tag.
Matrix = Literal["tagged", "bt601", "bt709", "bt2020"]

#: What an untagged file is decoded by, at every size, as FFmpeg's swscale and OpenCV do.
UNTAGGED_MATRIX = "bt601"
#: ITU-T H.273: the tag that says nothing.
UNSPECIFIED = 2


@dataclass(frozen=True)
class Colour:
    """The colour tags of a file, with the numbers of ITU-T H.273.

    Attributes:
        matrix: ``bt601``, ``bt709`` or ``bt2020``: by which RGB becomes luma and chroma.
        primaries: 1 is BT.709, 6 is BT.601 (525 lines), 9 is BT.2020; 2 is "not specified".
        transfer: 1 is BT.709, 6 is BT.601; 2 is "not specified".
        full: luma and chroma use the range 0 to 255, not 16 to 235 (240).
    """

    matrix: str = "bt601"
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full: bool = False

    @staticmethod
    def of(source: Path | VideoInfo) -> Colour:
        """The tags with which a file made from this one is written: its own matrix, primaries, transfer and range.

        An untagged file gives BT.601, by which it is decoded; one in HLG or PQ gives BT.709, to which it is converted.

        Raises:
            ClipError: step ``video``; as for :func:`prep.video_reading.probe`.
        """
        from prep.timeline import VideoInfo, timeline_of

        return (source if isinstance(source, VideoInfo) else timeline_of(source).info).colour
