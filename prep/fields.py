"""Deinterlacing by FFmpeg's ``bwdif``: one frame for each pair of fields, at the time of the first field."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Generic, TypeVar

import av
from av.filter import Graph
from av.video.frame import VideoFrame

Stamp = TypeVar("Stamp")


def deinterlaced(frames: Iterator[tuple[Stamp, VideoFrame]]) -> Iterator[tuple[Stamp, VideoFrame]]:
    """Replace the frames that are flagged as interlaced; the others come through untouched.

    A frame depends on its two neighbours. Up to the first flagged frame nothing is delayed or copied.

    Args:
        frames: decoded frames in the order of display, each with anything that belongs to it.

    Yields:
        the same number of frames, each with what belongs to it.
    """
    last: tuple[Stamp, VideoFrame] | None = None
    weaver: _Weaver[Stamp] | None = None
    for stamp, frame in frames:
        if weaver is not None and not weaver.takes(frame):
            yield from weaver.finish()
            last = weaver = None
        if weaver is None and frame.interlaced_frame:
            weaver = _Weaver(frame)
            if last is not None and weaver.takes(last[1]):
                weaver.drop_first = True
                yield from weaver.push(*last)
        if weaver is None:
            last = stamp, frame
            yield stamp, frame
        else:
            yield from weaver.push(stamp, frame)
    if weaver is not None:
        yield from weaver.finish()


class _Weaver(Generic[Stamp]):
    """A filter graph for frames of one size and format."""

    def __init__(self, frame: VideoFrame) -> None:
        self.layout = _layout(frame)
        self.stamps: deque[Stamp] = deque()
        self.count = 0
        self.drop_first = False
        self.graph = Graph()
        self.graph.threads = 1
        nodes = [
            self.graph.add(
                "buffer",
                video_size=f"{frame.width}x{frame.height}",
                pix_fmt=frame.format.name,
                time_base="1/25",
                pixel_aspect="1/1",
                colorspace=str(int(frame.colorspace)),
                range=str(int(frame.color_range)),
            ),
            self.graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            self.graph.add("buffersink"),
        ]
        self.graph.link_nodes(*nodes).configure()

    def takes(self, frame: VideoFrame) -> bool:
        """Whether the graph is for frames such as this one."""
        return _layout(frame) == self.layout

    def push(self, stamp: Stamp, frame: VideoFrame) -> Iterator[tuple[Stamp, VideoFrame]]:
        """Add a frame; yields the one before it."""
        frame.pts, frame.time_base = self.count, Fraction(1, 25)
        self.count += 1
        self.stamps.append(stamp)
        self.graph.push(frame)
        yield from self._pull()

    def finish(self) -> Iterator[tuple[Stamp, VideoFrame]]:
        """Yield the last frame."""
        self.graph.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[tuple[Stamp, VideoFrame]]:
        while True:
            try:
                frame: Any = self.graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            stamp = self.stamps.popleft()
            if not self.drop_first:
                yield stamp, frame
            self.drop_first = False


def _layout(frame: VideoFrame) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
