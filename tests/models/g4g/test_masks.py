"""Hidden regions and their smoothed masks."""

from __future__ import annotations

import pytest
import torch

from models.g4g.masks import Masks, masks, regions
from models.layers.mouth_square import MouthSquare

SIZES = [64, 128, 256]


@pytest.mark.parametrize("mouth", SIZES)
def test_regions_lie_where_they_are_said_to(mouth: int) -> None:
    square = MouthSquare(mouth)
    face, half, inner, chin, lips = regions(square, ["face", "half", "square", "chin", "lips"])[:, 0]
    assert face.shape == (square.height, square.width) and face.all()
    assert not half[: square.height // 2].any() and half[square.height // 2 :].all()
    assert square.cut(inner).all() and inner.sum() == mouth**2
    assert chin.sum() == mouth * (square.height - mouth // 2)
    assert ((chin >= inner) & (inner >= lips)).all()
    assert 0.2 * mouth**2 < lips.sum() < 0.5 * mouth**2


@pytest.mark.parametrize("mouth", SIZES)
def test_nothing_hidden_shows_through_the_smoothed_mask(mouth: int) -> None:
    hidden, share = masks(MouthSquare(mouth), ["square", "half", "chin"])
    assert (share[hidden > 0] == 1).all()
    assert share.min() == 0 and share.max() == 1
    # It is smooth: no step from pixel to pixel is large.
    assert max(share.diff(dim=2).abs().max(), share.diff(dim=3).abs().max()) < 0.4


@pytest.mark.parametrize("mouth", SIZES)
def test_the_square_fades_out_before_the_edges_of_the_face(mouth: int) -> None:
    share = masks(MouthSquare(mouth), ["square"]).share[0, 0]
    border = torch.cat([share[0], share[-1], share[:, 0], share[:, -1]])
    assert not border.any()


def test_a_region_at_an_edge_goes_on_beyond_it() -> None:
    share = masks(MouthSquare(64), ["half"]).share[0, 0]
    assert (share[-1] == 1).all()
    # Every column is like the next.
    assert torch.allclose(share, share[:, :1].expand_as(share), atol=1e-6)


def test_without_smoothing_the_edge_is_hard() -> None:
    hidden, share = masks(MouthSquare(64), ["square"], sigma=0)
    assert torch.equal(hidden, share)


def test_masks_of_a_batch() -> None:
    both = masks(MouthSquare(32), ["square", "half"])
    picked = both.pick(torch.tensor([1, 0, 1]))
    assert isinstance(picked, Masks)
    assert torch.equal(picked.hidden, both.hidden[[1, 0, 1]])
    assert torch.equal(picked.share, both.share[[1, 0, 1]])


@pytest.mark.parametrize("names", [[], ["square", "face"]], ids=["none", "all"])
def test_something_must_be_seen(names: list[str]) -> None:
    with pytest.raises(ValueError, match="something must remain to be seen"):
        masks(MouthSquare(32), names)  # type: ignore[arg-type]
