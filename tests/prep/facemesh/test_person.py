from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from prep.facemesh.person import person
from prep.toy.portraits import portrait_file


@pytest.mark.parametrize("part", [slice(None), slice(37, 387)])
def test_a_person_is_seen_as_by_the_package(part: slice) -> None:
    solution = pytest.importorskip("mediapipe.python.solutions.selfie_segmentation")
    picture = np.asarray(Image.open(portrait_file("hopper")).convert("RGB"))[part, part]
    mask = person(picture)
    assert mask.shape == picture.shape[:2] and mask.dtype == np.float32
    assert 0.4 < mask.mean() < 0.7 and mask.min() >= 0 and mask.max() <= 1
    with solution.SelfieSegmentation(model_selection=0) as segmenter:
        expected = segmenter.process(np.ascontiguousarray(picture)).segmentation_mask
    np.testing.assert_allclose(mask, expected, atol=1e-3)
