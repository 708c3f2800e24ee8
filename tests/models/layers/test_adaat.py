from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.adaat import AdaAT, turned

Given = tuple[Tensor, Tensor, Tensor, Tensor]


def given(*shape: int, seed: int = 0) -> Given:
    rng = torch.Generator().manual_seed(seed)
    batch, channels = shape[:2]

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=rng, dtype=torch.float64)

    return (
        normal(*shape),
        1 + 0.3 * normal(batch, channels),
        normal(batch, channels),
        0.4 * normal(batch, channels, 2),
    )


def at(channel: Tensor, row: float, column: float) -> float:
    """A (H, W) map between its pixels, by hand; 0 beyond it."""
    height, width = channel.shape
    top, left = math.floor(row), math.floor(column)
    found = 0.0
    for r, of_row in ((top, top + 1 - row), (top + 1, row - top)):
        for c, of_column in ((left, left + 1 - column), (left + 1, column - left)):
            if 0 <= r < height and 0 <= c < width:
                found += of_row * of_column * float(channel[r, c])
    return found


def plain(features: Tensor, scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """The paper's form, point by point."""
    batch, channels, height, width = features.shape
    result = torch.empty_like(features)
    for b in range(batch):
        for c in range(channels):
            size, turn = float(scale[b, c]), float(angle[b, c])
            across, down = shift[b, c].tolist()
            for i in range(height):
                for j in range(width):
                    x, y = 2 * j / (width - 1) - 1, 2 * i / (height - 1) - 1
                    u = size * (math.cos(turn) * x - math.sin(turn) * y) + across
                    v = size * (math.sin(turn) * x + math.cos(turn) * y) + down
                    row, column = (v + 1) / 2 * (height - 1), (u + 1) / 2 * (width - 1)
                    result[b, c, i, j] = at(features[b, c], row, column)
    return result


def official(features: Tensor, scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """The official form: a grid with a third coordinate, in a volume of one channel."""
    batch, channels, height, width = features.shape
    z, y, x = (torch.linspace(-1, 1, n, dtype=features.dtype) for n in (channels, height, width))
    z, y, x = (each.expand(batch, -1, -1, -1) for each in torch.meshgrid(z, y, x, indexing="ij"))
    scale, angle = scale[..., None, None], angle[..., None, None]
    u = scale * (angle.cos() * x - angle.sin() * y) + shift[..., 0, None, None]
    v = scale * (angle.sin() * x + angle.cos() * y) + shift[..., 1, None, None]
    return F.grid_sample(features[:, None], torch.stack([u, v, z], -1), align_corners=False)[:, 0]


def test_the_papers_form_point_by_point() -> None:
    values = given(2, 3, 5, 4)
    torch.testing.assert_close(turned(*values), plain(*values))


@pytest.mark.parametrize("channels", [1, 2, 5, 16])
def test_the_official_form_is_that_of_three_dimensions(channels: int) -> None:
    values = given(2, channels, 5, 4)
    torch.testing.assert_close(turned(*values, mixed=True), official(*values))


def test_both_have_the_gradients_of_their_references() -> None:
    for mixed, reference in ((False, None), (True, official)):
        values = tuple(each.requires_grad_() for each in given(2, 4, 5, 3, seed=1))
        assert torch.autograd.gradcheck(lambda *all_: turned(*all_, mixed=mixed), values)  # noqa: B023
        if reference is not None:
            found, wanted = (
                torch.autograd.grad(made.square().sum(), values)
                for made in (turned(*values, mixed=True), reference(*values))
            )
            torch.testing.assert_close(found, wanted)


def test_without_motion_the_papers_form_changes_nothing_and_the_official_one_does() -> None:
    features = torch.rand(1, 4, 6, 5, dtype=torch.float64)
    still = (torch.ones(1, 4), torch.zeros(1, 4), torch.zeros(1, 4, 2))
    torch.testing.assert_close(turned(features, *still), features, atol=1e-6, rtol=0)
    assert (turned(features, *still, mixed=True) - features).abs().max() > 0.1


def test_directions() -> None:
    """A shift to the right shows what lies right; a scale of 0 shows the middle everywhere; a turn by 90 degrees."""
    features = torch.arange(25.0).view(1, 1, 5, 5)

    def moved(scale: float = 1.0, angle: float = 0.0, across: float = 0.0, down: float = 0.0) -> Tensor:
        values = torch.tensor([[scale]]), torch.tensor([[angle]]), torch.tensor([[[across, down]]])
        return turned(features, *values)[0, 0]

    torch.testing.assert_close(moved(across=0.5)[:, :4], features[0, 0, :, 1:])
    torch.testing.assert_close(moved(down=0.5)[:4], features[0, 0, 1:])
    torch.testing.assert_close(moved(scale=0.0), torch.full((5, 5), 12.0))
    # (1, 0), the middle of the right edge, shows (0, 1), the middle of the lower one.
    turn = moved(angle=math.pi / 2)
    assert float(turn[2, 4]) == pytest.approx(22, abs=1e-4)
    torch.testing.assert_close(turn, features[0, 0].T.flip(0), atol=1e-4, rtol=0)
    assert not moved(across=3.0).any()


def test_a_channel_of_the_papers_form_knows_no_other() -> None:
    features, *motion = given(1, 6, 5, 4)
    other = features.clone()
    other[:, 4] += 1
    for mixed, touched in ((False, [4]), (True, [3, 4])):
        difference = (turned(other, *motion, mixed=mixed) - turned(features, *motion, mixed=mixed)).abs()  # type: ignore[arg-type]
        assert (difference.amax((0, 2, 3)) > 1e-9).nonzero().flatten().tolist() == touched


def test_the_layer_predicts_within_its_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = AdaAT(6, 8).requires_grad_(False)
    seen: list[Tensor] = []
    monkeypatch.setattr("models.layers.adaat.turned", lambda *values: seen.extend(values[1:4]) or values[0])
    layer(torch.rand(50, 8, 3, 3), 1000 * torch.randn(50, 6))
    scale, angle, shift = seen
    assert (scale.shape, angle.shape, shift.shape) == ((50, 8), (50, 8), (50, 8, 2))
    assert scale.min() == 0 and scale.max() == 2
    assert float(angle.min()) == pytest.approx(-3.14159) and float(angle.max()) == pytest.approx(3.14159)
    assert shift.min() == -1 and shift.max() == 1


@pytest.mark.parametrize("mixed", [False, True])
def test_under_autocast_places_are_exact(mixed: bool) -> None:
    torch.manual_seed(0)
    layer, features, code = AdaAT(6, 8, mixed), torch.rand(2, 8, 26, 20), torch.randn(2, 6)
    expected = layer(features, code)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(features, code), expected)
        halved = layer(features.bfloat16(), code.bfloat16())
    assert halved.dtype == torch.bfloat16
