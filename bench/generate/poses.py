"""Whether a method takes the head's pose that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.common.errors import BenchError
from bench.generate.record import PoseFrom

if TYPE_CHECKING:
    from models.base import PoseKind, Talker


def check_pose(talker: Talker, pose: PoseFrom, other_clips: bool) -> None:
    """Refuse a pose that a method cannot take.

    Args:
        talker: the method.
        pose: what is asked for.
        other_clips: some videos take the pose of another clip.

    Raises:
        BenchError: it takes no such pose; names those that it takes.
    """
    wanted: list[PoseKind] = ["still"] if pose == "still" else ["footage"]
    if other_clips:
        wanted.append("video")
    words = {"footage": "footage", "video": "that of another video", "still": "still"}
    for kind in wanted:
        if kind not in talker.poses:
            there = ", ".join(words[kind] for kind in sorted(talker.poses))
            raise BenchError(
                f"{talker.name} does not take the pose {words[kind]}: it takes {there}; see --pose"
            )
