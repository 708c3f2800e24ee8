from __future__ import annotations

import pytest
import torch

from models.lipformer.audio import AudioEncoder


@pytest.mark.parametrize(("width", "dim"), [(1.0, 512), (0.125, 64)])
def test_a_chunk_becomes_a_vector(width, dim):
    with torch.device("meta"):
        encoder = AudioEncoder(width)
        found = encoder(torch.zeros(3, 80, 16))
    assert encoder.dim == dim
    assert found.shape == (3, dim)


def test_every_column_and_band_is_heard():
    torch.manual_seed(0)
    encoder = AudioEncoder(0.125).eval()
    mel = torch.randn(1, 80, 16, requires_grad=True)
    encoder(mel).sum().backward()
    assert mel.grad is not None
    assert (mel.grad != 0).all()
