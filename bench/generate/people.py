"""One of several people in a video: whose face a dubbing follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prep.landmarks import LARGEST, Detector, FaceChoice, Float, Image

#: Frames after which a person who was not seen any more is forgotten.
_REMEMBERED = 25
#: Two faces whose boxes have a larger intersection over union are one face, found twice.
_SAME = 0.3


class OnePerson:
    """A detector that gives one person's face only, as :class:`prep.landmarks.Detector`.

    A face that continues the face of somebody else is never taken, so that nobody else speaks in frames in which the
    person's face is not found. A face that continues nobody's is taken (the largest, if there are several): the video
    is cut, or the person moved fast.

    Args:
        detector: gives all faces.
        choose: who it is, in the first frame with a face.

    Attributes:
        shape: points of a face and values of a point.
        people: faces in the first frame that has one; 0 before that.
    """

    def __init__(self, detector: Detector, choose: FaceChoice) -> None:
        self.shape = detector.shape
        self.people = 0
        self._detector = detector
        self._choose = choose
        self._person: Float | None = None
        self._others: list[_Other] = []

    def detect(self, frame: Image) -> Float:
        """Landmarks (0 or 1, *shape) of the person's face in a frame (H, W, 3) uint8 RGB.

        Raises:
            ClipError: in the first frame with a face, there is none that the choice asks for.
        """
        return self._only(self._detector.detect(frame))

    def detect_batch(self, frames: Sequence[Image]) -> Iterator[Float]:
        """As :meth:`detect` for several frames, which the detector sees at once; each is followed when it is taken, so
        that a frame may be searched (:meth:`search`) before the next one is taken."""
        return map(self._only, self._detector.detect_batch(frames))

    def search(self, frame: Image) -> Float:
        """As :meth:`detect`, also for small faces."""
        return self._only(self._detector.search(frame))

    def confirms(self, frame: Image, face: Float) -> bool:
        """As of the detector."""
        return self._detector.confirms(frame, face)

    def reset(self) -> None:
        """A video or a shot of it begins: forget where everybody was. In another shot than the first, somebody speaks
        in any case: the largest face, if there are fewer than the choice asks for."""
        self._detector.reset()
        self._person, self._others = None, []

    def close(self) -> None:
        """Close the detector."""
        self._detector.close()

    def _only(self, faces: Float) -> Float:
        if not len(faces):
            return faces
        boxes = np.concatenate([faces[..., :2].min(axis=1), faces[..., :2].max(axis=1)], axis=1)
        if self._person is None:
            few = self.people > 0 and self._choose.number is not None and self._choose.number > len(faces)
            mine: int | None = (LARGEST if few else self._choose).first(faces)
            self.people = self.people or len(faces)
        else:
            mine = self._mine(boxes)
        if mine is not None:
            self._person = boxes[mine]
        assert self._person is not None
        others = [box for number, box in enumerate(boxes) if number != mine]
        self._remember([box for box in others if _overlap(box, self._person) < _SAME])
        return faces[[] if mine is None else [mine]]

    def _mine(self, boxes: Float) -> int | None:
        assert self._person is not None
        shared = [_overlap(box, self._person) for box in boxes]
        others = [max((_overlap(box, other.box) for other in self._others), default=0.0) for box in boxes]
        # By overlap with the person, then by size.
        areas = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)).tolist()
        for number in sorted(range(len(boxes)), key=lambda n: (shared[n], areas[n]), reverse=True):
            if shared[number] > others[number] or others[number] == 0:
                return number
        return None

    def _remember(self, boxes: list[Float]) -> None:
        kept = [_Other(other.box, other.unseen + 1) for other in self._others if other.unseen < _REMEMBERED]
        for box in boxes:
            kept = [other for other in kept if _overlap(other.box, box) == 0]
        self._others = [*kept, *(_Other(box) for box in boxes)]


@dataclass(frozen=True)
class _Other:
    """Somebody else.

    Attributes:
        box: (4,) x0, y0, x1, y1 of the face where it was last seen, pixels.
        unseen: frames since then.
    """

    box: Float
    unseen: int = 0


def _overlap(one: Float, other: Float) -> float:
    """Intersection over union of two boxes, (4,) x0, y0, x1, y1."""
    shared = float(np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod())
    return (
        shared / float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared)
        if shared
        else 0.0
    )
