from __future__ import annotations

import pytest
import torch

from models.lipformer.face_warp import FaceWarp, KeypointExtractor, OffsetRegressor, sample

H, W, D = 4, 8, 6


def field(x: float, y: float) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, H, W)


def ramp() -> torch.Tensor:
    """Channel 0 holds each cell's column, channel 1 its row."""
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    return torch.stack([columns, rows]).float()[None]


# Sampling --------------------------------------------------------------------------------------------


def test_no_offset_is_the_identity():
    source = torch.randn(2, D, H, W)
    torch.testing.assert_close(sample(source, torch.zeros(2, 2, H, W)), source, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (-2.0, 1.0), (0.25, -0.5), (2.75, 3.0)])
def test_offsets_are_cells_to_the_right_and_down(x, y):
    found = sample(ramp(), field(x, y))
    # Beyond the border its cells repeat.
    expected = torch.stack([(ramp()[0, 0] + x).clamp(0, W - 1), (ramp()[0, 1] + y).clamp(0, H - 1)])[None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_figure_3_by_hand():
    # The first cell takes from (1.25, 1.5), between four of them.
    source = torch.zeros(1, 1, H, W)
    source[0, 0, 1:3, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    offsets = torch.zeros(1, 2, H, W)
    offsets[0, :, 0, 0] = torch.tensor([1.25, 1.5])
    found = sample(source, offsets)
    by_hand = 0.5 * (0.75 * 1 + 0.25 * 2) + 0.5 * (0.75 * 3 + 0.25 * 4)
    assert float(found[0, 0, 0, 0]) == pytest.approx(by_hand)
    torch.testing.assert_close(found[0, 0, 1:], source[0, 0, 1:])


def test_the_gradient_of_an_offset_is_the_slope():
    offsets = torch.full((1, 2, H, W), 0.25, requires_grad=True)
    sample(3 * ramp(), offsets)[0, 0, 1, 2].backward()
    assert offsets.grad is not None
    assert offsets.grad[0, 0, 1, 2] == pytest.approx(3.0, abs=1e-4)
    assert offsets.grad.count_nonzero() == 1


def test_sampling_has_the_gradients_of_finite_differences():
    torch.manual_seed(0)
    source = torch.randn(1, 2, H, W, dtype=torch.float64, requires_grad=True)
    # Away from the cells, where the slope changes, and within the borders, beyond which it is 0.
    offsets = torch.rand(1, 2, H, W, dtype=torch.float64) * 0.4 + 0.1
    assert torch.autograd.gradcheck(sample, (source, offsets.requires_grad_()))


# The networks ----------------------------------------------------------------------------------------


def test_heat_maps_are_softmaxes_over_positions():
    maps = KeypointExtractor(D, 5, 8)(torch.randn(2, D, H, W) * 10)
    assert maps.shape == (2, 5, H, W)
    assert (maps > 0).all()
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 5))


@pytest.mark.parametrize(("height", "width"), [(4, 8), (8, 16), (3, 6), (1, 2)])
def test_offsets_have_the_size_of_the_latent_space(height, width):
    found = OffsetRegressor(5, 8)(torch.randn(2, 5, height, width))
    assert found.shape == (2, 2, height, width)


def test_the_warp_begins_as_the_identity():
    torch.manual_seed(0)
    upper, other, lower = torch.randn(3, 2, D, H, W)
    torch.testing.assert_close(FaceWarp(D)(upper, other, lower), lower, atol=1e-5, rtol=0)


def test_a_moved_upper_half_moves_the_lower_half_of_the_reference():
    """The motion of the head is learned: seen in the upper halves, applied to the lower ones."""
    torch.manual_seed(0)
    warp = FaceWarp(D, keypoints=4, hidden=16)
    optimizer = torch.optim.Adam(warp.parameters(), 5e-3)
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(16.0), indexing="ij")

    def half(at: torch.Tensor) -> torch.Tensor:
        """Smooth encodings that lie so many columns to the right: (B, D, 8, 16)."""
        phase = torch.arange(D)[:, None, None] * 0.7
        return torch.cos(0.35 * (columns - at[:, None, None, None]) + 0.3 * rows + phase)

    losses, still = [], []
    for _ in range(150):
        target, reference = torch.rand(2, 16) * 3 - 1.5
        wanted = half(target)
        moved = warp(half(target), half(reference), half(reference))
        loss = (moved - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        still.append(float((half(reference) - wanted).square().mean()))
    assert sum(losses[-10:]) < 0.4 * sum(still[-10:])
    # To look like a target that lies farther right, the reference is sampled farther left.
    offsets = warp.offsets(half(torch.tensor([1.0])), half(torch.tensor([0.0])))
    assert float(offsets[0, 0].mean()) < -0.3
