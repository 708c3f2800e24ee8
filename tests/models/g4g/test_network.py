"""G4G's generator: shapes, gradients, ablations, half precision, compilation."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from models.g4g.contrast import contrast
from models.g4g.fusion import FusionNetwork
from models.g4g.losses import attribute_loss, reconstruction_loss
from models.g4g.masks import Masks, masks, regions
from models.g4g.network import Generator, Made
from models.layers.mouth_square import MouthSquare
from models.layers.precision import kept_full
from models.layers.recompute import recomputed

SQUARE = MouthSquare(32)


class Inputs(NamedTuple):
    sources: Tensor
    masks: Masks
    references: Tensor
    landmarks: Tensor
    mels: Tensor


def inputs(frames: int = 2, shared: int = 2, square: MouthSquare = SQUARE, references: int = 2) -> Inputs:
    """Frames of chance."""
    height, width = square.height, square.width
    return Inputs(
        torch.rand(frames, 3, height, width),
        masks(square, ["square"]),
        torch.rand(shared, 3 * references, height, width),
        torch.rand(shared, 1, height, width).round(),
        torch.randn(frames, 80, 16),
    )


def generator(**options: Any) -> Generator:
    """A small one, with the same weights each time."""
    torch.manual_seed(0)
    return Generator(width=1 / 16, references=2, blocks=1, **options)


def losses(made: Made, wanted: Tensor) -> Tensor:
    """All losses of the networks themselves."""
    looked = regions(SQUARE, ["face", "square"])
    total = reconstruction_loss(made.face, wanted, looked)
    if made.landmark is not None and made.pairs is not None:
        total = total + attribute_loss(made.source, made.landmark) + contrast(made.pairs, 0.07)
    return total


@pytest.mark.parametrize("mouth", [32, 64, 128])
def test_shapes_and_ranges_of_every_size(mouth: int) -> None:
    square = MouthSquare(mouth)
    network = generator()
    made = network(*inputs(square=square))
    for picture in (made.face, made.composite, made.painted):
        assert picture.shape == (2, 3, square.height, square.width)
        assert picture.min() >= 0 and picture.max() <= 1
    assert made.source.shape == made.landmark.shape == (2, 16)
    assert all(each.shape == (2, 16) for each in made.pairs)


def test_at_width_1_as_many_channels_are_deformed_as_in_the_paper() -> None:
    with torch.device("meta"):
        network = Generator()
    assert network.deform.scale[0].out_features == 256
    assert network.reference_encoder[0].conv_block[0].in_channels == 15


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"landmark_encoder": "source", "fused": "features", "mixed": True},
        {"others": "shared", "spoken": True},
        {"alignment": False},
        {"fusion": False},
    ],
    ids=str,
)
def test_gradients_reach_every_weight(options: dict[str, Any]) -> None:
    network = generator(**options)
    given = inputs(3, 3)
    losses(network(*given), torch.rand_like(given.sources)).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_with_residual_and_blending_by_it_the_composite_is_kept_at_first() -> None:
    network = generator(residual=True, blend="residual").eval()
    given = inputs()
    made = network(*given)
    visible = given.sources * (1 - given.masks.hidden)
    under = torch.lerp(visible, given.references[:, :3], given.masks.share)
    torch.testing.assert_close(made.painted, under.clamp(0.02, 0.98))
    torch.testing.assert_close(made.composite, torch.lerp(visible, made.painted, given.masks.share))
    torch.testing.assert_close(made.face, made.composite.clamp(0.02, 0.98))


def test_nothing_of_what_is_hidden_is_read() -> None:
    network = generator().eval()
    given = inputs()
    one = network(*given)
    other = network(
        *given._replace(sources=given.sources + given.masks.hidden * torch.rand_like(given.sources))
    )
    assert torch.equal(one.face, other.face)
    shown = network(*given._replace(sources=given.sources * 0.5))
    assert not torch.equal(one.face, shown.face)


def test_the_composite_is_the_source_outside_of_the_mask() -> None:
    given = inputs()
    made = generator()(*given)
    outside = (given.masks.share == 0).expand_as(made.composite)
    inside = (given.masks.hidden == 1).expand_as(made.composite)
    assert torch.equal(made.composite[outside], given.sources[outside])
    assert torch.equal(made.composite[inside], made.painted[inside])
    assert not torch.equal(made.face[outside], given.sources[outside])


@pytest.mark.parametrize("name", ["references", "landmarks", "mels"])
def test_all_that_is_given_has_an_effect(name: str) -> None:
    network = generator()
    given = inputs()
    other = given._replace(**{name: torch.zeros_like(getattr(given, name))})
    # Untrained, the landmarks do not do much, but more than rounding.
    assert (network(*other).face - network(*given).face).abs().max() > 1e-5


def test_each_frame_has_a_mask_of_its_own() -> None:
    network = generator().eval()
    given = inputs()
    both = masks(SQUARE, ["square", "half"])
    mixed = network(*given._replace(masks=both)).face
    for frame, name in enumerate(["square", "half"]):
        one = network(*given._replace(masks=masks(SQUARE, [name])))  # type: ignore[list-item]
        torch.testing.assert_close(mixed[frame], one.face[frame])


@pytest.mark.parametrize("shared", [1, 2])
def test_references_that_frames_share_are_given_once(shared: int) -> None:
    network = generator().eval()
    given = inputs(4, shared)
    repeated = given._replace(
        references=given.references.repeat_interleave(4 // shared, 0),
        landmarks=given.landmarks.repeat_interleave(4 // shared, 0),
    )
    torch.testing.assert_close(network(*given).face, network(*repeated).face)
    # Landmarks may be those of each frame though references are shared.
    own = given._replace(landmarks=repeated.landmarks)
    torch.testing.assert_close(network(*given).face, network(*own).face)


def test_without_alignment_there_are_no_landmarks_and_no_pairs() -> None:
    network = generator(alignment=False)
    made = network(*inputs()._replace(landmarks=None))
    assert made.landmark is None and made.pairs is None
    names = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert names.isdisjoint({"landmark_encoder", "landmark_summary", "align", "projections"})
    assert names | {"align", "projections", "landmark_encoder", "landmark_summary"} >= {
        name.split(".")[0] for name, _ in generator().named_parameters()
    }


def test_without_fusion_the_composite_is_the_face() -> None:
    network = generator(fusion=False)
    made = network(*inputs())
    assert made.face is made.composite
    assert not any("fusion_network" in name for name, _ in network.named_parameters())


def test_at_first_nothing_is_moved_where_that_is_asked_for() -> None:
    features = torch.randn(2, 16, 13, 10)
    for network, same in ((generator(), False), (generator(unmoved=True), True)):
        moved = network.deform(features, torch.randn(2, 32))
        assert torch.allclose(moved, features, atol=1e-5) is same


def test_sound_reaches_the_decoder_past_the_deformation_where_that_is_asked_for() -> None:
    given = inputs()
    silent = given._replace(mels=torch.zeros_like(given.mels))
    for spoken in (False, True):
        network = generator(unmoved=True, spoken=spoken)
        assert torch.equal(network(*given).painted, network(*silent).painted) is not spoken


@pytest.mark.parametrize("options", [{}, {"alignment": False, "fusion": False}], ids=str)
def test_with_less_memory_gradients_are_the_same(options: dict[str, Any]) -> None:
    found = []
    for parts in (False, True):
        network = generator(**options)
        given = inputs()
        again = (network.get_submodule(name) for name in network.parts if parts)
        with recomputed(again):
            losses(network(*given), given.sources).backward()
        found.append([weight.grad for weight in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_equation_4_as_printed_has_no_encoder_of_its_own() -> None:
    names = {name.split(".")[0] for name, _ in generator(landmark_encoder="source").named_parameters()}
    assert "landmark_encoder" not in names and "landmark_summary" in names


def test_half_precision_is_near_full() -> None:
    network = generator().eval()
    given = inputs()
    full = network(*given)
    kept = (network.get_submodule(name.removeprefix("generator.")) for name in Generator.FLOAT32)
    with kept_full(kept), torch.autocast("cpu", torch.bfloat16):
        half = network(*given)
    assert (half.face.float() - full.face).abs().max() < 0.02
    assert half.pairs.visual.dtype == torch.float32
    assert half.painted.dtype == torch.float32
    assert torch.allclose(contrast(half.pairs, 0.07), contrast(full.pairs, 0.07), atol=0.05)


@pytest.mark.parametrize("options", [{}, {"alignment": False, "fusion": False}], ids=str)
def test_it_is_one_graph(options: dict[str, Any]) -> None:
    network = generator(residual=True, **options).eval()
    given = inputs()
    whole = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(*given).face, network(*given).face)
    torch.compiler.reset()


def test_a_direct_fusion_network_learns_to_keep_the_picture() -> None:
    torch.manual_seed(0)
    network = FusionNetwork(8)
    share = masks(SQUARE, ["square"]).share
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    errors = []
    for _ in range(150):
        picture = torch.rand(4, 3, 13, 10)
        picture = torch.nn.functional.interpolate(picture, size=(SQUARE.height, SQUARE.width), mode="bicubic")
        picture = picture.clamp(0, 1)
        error = (network(picture, share) - picture).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-10:]) / 10 < 0.3 * errors[0]
