"""Warping by a motion field, on cases worked out by hand."""

from __future__ import annotations

import pytest
import torch

from models.layers.warp import motion_grid, warp


def test_motion_is_in_pixels_between_centres() -> None:
    motion = torch.zeros(1, 2, 3, 5)
    motion[0, 0, 1, 1], motion[0, 1, 1, 1] = 2, -1
    grid = motion_grid(motion)
    assert grid[0, 0, 0].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert grid[0, 1, :, 0].tolist() == pytest.approx([-1, 0, 1])
    # The pixel at (1, 1) comes from (3, 0).
    assert grid[0, :, 1, 1].tolist() == pytest.approx([0.5, -1])


def test_still_motion_shrinks_by_the_official_half_pixel() -> None:
    """Pixel i of 4 is read at (4 / 3) i - 0.5, and what lies outside is 0."""
    row = torch.tensor([3.0, 6.0, 9.0, 12.0])
    made = warp(row.expand(1, 1, 4, 4).clone(), motion_grid(torch.zeros(1, 2, 4, 4)))
    inner = [3 / 2, 5.5, 9.5, 12 / 2]  # at -0.5, 5/6, 13/6 and 3.5
    assert made[0, 0, 1].tolist() == pytest.approx(inner, abs=1e-5)
    assert made[0, 0, 0].tolist() == pytest.approx([v / 2 for v in inner], abs=1e-5)


def test_a_field_is_resized_to_its_source() -> None:
    source = torch.rand(1, 2, 4, 4)
    motion = torch.zeros(1, 2, 8, 8)
    made = warp(source, motion_grid(motion))
    assert made.shape == source.shape
    # Bilinear halving of centres -1 … 1 of 8: (-1 + 1 / 7), and so on, in borders' units.
    at = torch.tensor([-6 / 7, -2 / 7, 2 / 7, 6 / 7])
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)[None]
    assert torch.allclose(made, torch.nn.functional.grid_sample(source, grid, align_corners=False), atol=1e-6)


def test_places_are_float32_where_motion_and_source_are_not() -> None:
    torch.manual_seed(0)
    motion, source = torch.randn(1, 2, 128, 128).bfloat16() * 3, torch.rand(1, 3, 128, 128)
    grid = motion_grid(motion)
    assert torch.equal(grid, motion_grid(motion.float()))
    made = warp(source.bfloat16(), grid)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, warp(source.bfloat16().float(), grid).bfloat16())
