from __future__ import annotations

import numpy as np
import pytest
import torch

from models.layers.picture_discriminator import PictureDiscriminator
from tests.baselines import official


def test_scores_are_the_official_ones() -> None:
    network = official.loaded("dinet_disc", PictureDiscriminator())
    expected = official.outputs("dinet_disc")
    (pictures,) = official.inputs("dinet_disc").values()
    with torch.no_grad():
        found = {
            "score": network(pictures),
            "feature3": network.features(pictures),  # type: ignore[operator]
        }
    assert found.keys() == expected.keys()
    for name, values in found.items():
        stride = official.spec("dinet_disc")["outputs"][name].get("stride", 1)
        np.testing.assert_allclose(
            values.numpy().ravel()[::stride], expected[name].ravel(), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize(
    ("height", "width", "scores"), [(104, 80, (7, 4)), (208, 160, (20, 14)), (416, 320, (46, 34))]
)
def test_faces_of_all_stages_get_scores(height: int, width: int, scores: tuple[int, int]) -> None:
    network = PictureDiscriminator(15, 0.02)
    assert network(torch.rand(1, 15, height, width)).shape == (1, 1, *scores)
