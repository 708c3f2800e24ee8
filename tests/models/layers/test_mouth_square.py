from __future__ import annotations

import pytest
import torch

from models.layers.mouth_square import MouthSquare
from prep.views import VIEWS


@pytest.mark.parametrize(("mouth", "height", "width"), [(64, 104, 80), (128, 208, 160), (256, 416, 320)])
def test_the_faces_of_the_stages(mouth: int, height: int, width: int) -> None:
    square = MouthSquare(mouth)
    assert (square.height, square.width) == (height, width)
    assert (square.rows, square.columns) == (
        slice(mouth // 2, mouth // 2 + mouth),
        slice(mouth // 8, mouth // 8 + mouth),
    )
    # The distances to the other edges are those of the official code too.
    assert height - square.rows.stop == width - square.columns.stop == mouth // 8


def test_the_largest_face_is_the_view() -> None:
    square, view = MouthSquare(256), VIEWS["mouth416x320"]
    assert (square.height, square.width) == (view.height, view.width)


def test_what_is_hidden_is_what_is_cut() -> None:
    square = MouthSquare(16)
    pictures = 1 + torch.rand(2, 5, 3, 26, 20)
    hidden = square.hide(pictures)
    assert square.cut(pictures).shape == (2, 5, 3, 16, 16)
    assert not square.cut(hidden).any()
    assert square.cut(pictures).all()  # a copy was changed
    hidden[..., square.rows, square.columns] = pictures[..., square.rows, square.columns]
    assert torch.equal(hidden, pictures)


def test_nothing_is_learnt_from_what_is_hidden() -> None:
    square = MouthSquare(8)
    pictures = torch.rand(1, 3, 13, 10, requires_grad=True)
    square.hide(pictures).sum().backward()
    assert torch.equal(pictures.grad, square.hide(torch.ones(1, 3, 13, 10)))


@pytest.mark.parametrize("mouth", [0, -8, 4, 100])
def test_impossible_squares(mouth: int) -> None:
    with pytest.raises(ValueError, match=f"mouth square of {mouth} pixels"):
        MouthSquare(mouth)


@pytest.mark.parametrize("act", ["hide", "cut"])
def test_faces_of_another_size(act: str) -> None:
    with pytest.raises(ValueError, match="faces of 80×104 pixels; a mouth of 64 has 104×80"):
        getattr(MouthSquare(64), act)(torch.zeros(3, 80, 104))
