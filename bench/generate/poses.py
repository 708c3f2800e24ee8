"""Checks whether a method supports the requested head pose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.common.errors import BenchError
from bench.generate.record import PoseFrom

if TYPE_CHECKING:
    from models.base import PoseKind, Talker


def check_pose(talker: Talker, pose: PoseFrom, other_clips: bool) -> None:
    """Check that a method supports a pose.

    Args:
        talker: the method.
        pose: the requested pose.
        other_clips: whether some videos use the pose of another clip.

    Raises:
        BenchError: the method does not support this pose; names the poses that it supports.
    """
    wanted: list[PoseKind] = ["still"] if pose == "still" else ["footage"]
    if other_clips:
        wanted.append("video")
    words = {
        "footage": "the pose of the footage",
        "video": "the pose of another video",
        "still": "a still head",
    }
    for kind in wanted:
        if kind not in talker.poses:
            there = " or ".join(words[kind] for kind in sorted(talker.poses))
            raise BenchError(
                f"{talker.name} cannot generate with {words[kind]}, only with {there}: choose another --pose"
            )
