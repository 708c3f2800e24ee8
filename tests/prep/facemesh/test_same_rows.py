from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from prep.clip import Clip, ClipProcessor
from prep.options import PrepOptions
from prep.sources.base import ClipRef


def prepared(corpus: Path, detector: str) -> list[Clip]:
    options = PrepOptions(name="toy", source="folder", views=("box128", "face96"), detector=detector)
    processor = ClipProcessor(corpus, options)
    rows = []
    for path in sorted(corpus.rglob("*.mp4"))[:3]:
        (row,) = processor.process(ClipRef(path.stem, "test", str(path.relative_to(corpus))))
        assert isinstance(row, Clip)
        rows.append(row)
    return rows


def test_rows_differ_in_their_landmarks_only(toy_corpus: Path) -> None:
    """The suite's FaceMesh and the package's give the same rows, the cut pictures to the byte."""
    pytest.importorskip("mediapipe", reason="the reference is not installed")
    for ours, theirs in zip(prepared(toy_corpus, "facemesh"), prepared(toy_corpus, "mediapipe"), strict=True):
        assert ours.detected.all()
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, rtol=0, atol=0.03)
        for field in fields(Clip):
            if field.name == "landmarks":
                continue
            one, other = getattr(ours, field.name), getattr(theirs, field.name)
            if field.name == "transforms":
                assert one.keys() == other.keys()
                for name in one:
                    np.testing.assert_array_equal(one[name], other[name])
            elif isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, other)
            else:
                assert one == other, field.name
