"""One continuous clock for the picture and the sound of a file whose times begin anew.

Recordings that were joined byte by byte (the chapters of camcorders, segments of streams, chained Ogg) start their
timestamps again at every joint. As in FFmpeg's command line, the clock goes on: all streams of a recording are shifted
by the same time, so that lips stay in step. A recording begins where the longest stream of the one before it ends, as
with FFmpeg's ``concat`` demuxer.

A stream enters the next recording when its decoding times step back, or, in formats whose times may be discontinuous
(MPEG-TS, MPEG-PS, Ogg), when they leap ahead of those of all streams by more than ten seconds:
``ts_discontinuity_process`` of FFmpeg 8's ``ffmpeg_demux.c``, with its thresholds. Near a joint, packets of both
recordings may be interleaved, so each stream enters the next one by itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from prep.errors import ClipError

#: Seconds by which decoding times may step back inside one recording: in formats whose times may be discontinuous, and
#: in others, whose demuxers reconstruct the decoding times of reordered frames.
STEP_BACK, STEP_BACK_RECONSTRUCTED = 0.1, 1.0
#: Seconds by which times may leap ahead, in formats whose times may be discontinuous.
LEAP = 10.0
#: Seconds for which one stream may stay in a recording when others have entered the next.
_LAG = 2.0
#: Distance in seconds from the latest time at which a packet needs no search for its recording.
_NEAR = 0.25
#: More recordings in one file are damage: an hour of segments of four seconds has 900.
MOST_RECORDINGS = 1000


@dataclass(frozen=True)
class Clock:
    """By how much the packets of each stream are shifted.

    Attributes:
        shifts: stream index → number of a packet of the stream, from 0 → seconds by which it and those after it are
            shifted.
    """

    shifts: dict[int, dict[int, float]]


class ClockReader:
    """Finds the recordings in a file from the times of its packets.

    Args:
        leading: indices of the streams whose ends say how long a recording is.
        discontinuous: whether the format allows that its times are discontinuous.
        step: the step of errors.
    """

    def __init__(self, leading: Collection[int], discontinuous: bool, step: str) -> None:
        self.leading = leading
        self.discontinuous = discontinuous
        self.step = step
        self.back = STEP_BACK if discontinuous else STEP_BACK_RECONSTRUCTED
        self.now: float | None = None  # the latest time of all streams, on the preliminary clock
        self.offsets = [0.0]  # of each recording, preliminary
        self.begins = [0.0]  # of each recording, on the preliminary clock
        self.extents: list[dict[int, tuple[float, float]]] = [
            {}
        ]  # by stream: first and last time shown, not shifted
        self.strays: set[int] = (
            set()
        )  # "recordings" that a stream left again for an earlier one: damaged times
        self.last: dict[int, float] = {}  # of each stream, on the preliminary clock
        self.entered: dict[int, list[tuple[int, int]]] = {}  # stream → number of a packet, recording

    def add(self, stream: int, number: int, dts: float, shown: float, duration: float) -> None:
        """Note a packet, in the order of the file.

        Args:
            stream: its index.
            number: of the packet among those of its stream, from 0.
            dts: decoding time, seconds.
            shown: presentation time, seconds.
            duration: seconds, or 0 where that is not known.

        Raises:
            ClipError: one stream's times begin anew and another's do not.
        """
        entered = self.entered.setdefault(stream, [(0, 0)])
        before = entered[-1][1]
        recording = (
            before if len(self.offsets) == 1 and self._fits(stream, dts) else self._recording(stream, dts)
        )
        if recording != before:
            entered.append((number, recording))
            self.strays.update(range(recording + 1, before + 1))
        time = dts + self.offsets[recording]
        self.last[stream] = time
        self.now = time if self.now is None else max(self.now, time)
        first, end = self.extents[recording].get(stream, (shown, shown))
        self.extents[recording][stream] = min(first, shown), max(end, shown + duration)
        for later in range(recording + 1, len(self.offsets)):
            begins = self.begins[later]
            if later not in self.strays and time > begins + _LAG:
                raise ClipError(
                    self.step, f"at {begins:.1f} s the times of one stream begin anew, but not the other's"
                )

    def _continues(self, stream: int, recording: int, dts: float) -> bool:
        """Whether a packet plainly belongs to the recording of the one before it."""
        time = dts + self.offsets[recording]
        if recording < len(self.offsets) - 1 or not self._fits(stream, time):
            return False
        return recording == 0 or self.now is None or abs(time - self.now) < _NEAR

    def _fits(self, stream: int, time: float) -> bool:
        """Whether a time on the clock may follow what came before."""
        last = self.last.get(stream)
        if last is not None and time < last - self.back:
            return False
        return not self.discontinuous or self.now is None or time <= self.now + LEAP

    def _recording(self, stream: int, dts: float) -> int:
        """The recording in which a packet continues the clock best; a new one if none fits."""
        now = dts if self.now is None else self.now
        fitting = [
            (abs(dts + offset - now), number)
            for number, offset in enumerate(self.offsets)
            if self._fits(stream, dts + offset)
        ]
        if fitting:
            return min(fitting)[1]
        if len(self.offsets) == MOST_RECORDINGS:
            raise ClipError(self.step, f"its times begin anew more than {MOST_RECORDINGS - 1} times")
        self.offsets.append(now - dts)
        self.begins.append(now)
        self.extents.append({})
        return len(self.offsets) - 1

    def clock(self) -> Clock | None:
        """The clock of all packets that were noted; None if the times never begin anew."""
        if len(self.offsets) == 1:
            return None
        offsets = list(self.offsets)
        end = self._extent(0)[1]
        for number in range(1, len(offsets)):
            if number in self.strays:
                continue
            first, last = self._extent(number)
            offsets[number] = end - first
            end += last - first
        return Clock(
            {
                stream: {number: offsets[recording] for number, recording in entered}
                for stream, entered in self.entered.items()
            }
        )

    def _extent(self, recording: int) -> tuple[float, float]:
        """First and last time shown of a recording, not shifted."""
        found = self.extents[recording]
        spans = [span for stream, span in found.items() if stream in self.leading] or list(found.values())
        return min(first for first, _ in spans), max(end for _, end in spans)
