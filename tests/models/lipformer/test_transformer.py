from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from models.lipformer.transformer import (
    ConditionalLayerNorm,
    CrossAttention,
    Layer,
    LipTransformer,
)

D, N, ROWS, COLUMNS, AUDIO = 8, 12, 2, 4, 6


def transformer(**changes: object) -> LipTransformer:
    torch.manual_seed(0)
    options = {"layers": 2, "heads": 2, "feedforward": 16, **changes}
    return LipTransformer(D, N, ROWS, COLUMNS, AUDIO, **options)  # type: ignore[arg-type]


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, D, ROWS, COLUMNS), torch.randn(N, D), torch.randn(batch, AUDIO)


def test_conditional_layer_norm_by_hand():
    norm = ConditionalLayerNorm(2, 1)
    with torch.no_grad():
        norm.modulation.weight[:] = torch.tensor([[1.0], [0.0], [0.0], [2.0]])
    x = torch.tensor([[[1.0, 3.0]], [[5.0, 1.0]]])
    condition = torch.tensor([[1.0], [3.0]])
    # Normalised: (-1, 1) and (1, -1). γ' = (1 + c, 1), β' = (0, 2 c).
    expected = torch.tensor([[[-2.0, 3.0]], [[4.0, 5.0]]])
    torch.testing.assert_close(norm(x, condition), expected, atol=1e-4, rtol=0)


def test_it_begins_close_to_plain_layer_normalisation():
    torch.manual_seed(0)
    x, condition = torch.randn(2, 5, 16), torch.randn(2, 4)
    torch.testing.assert_close(
        ConditionalLayerNorm(16, 4)(x, condition), F.layer_norm(x, (16,)), atol=0.5, rtol=0
    )


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = CrossAttention(D, 2), torch.nn.MultiheadAttention(D, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    queries, codes = torch.randn(3, 5, D), torch.randn(N, D)
    repeated = codes.expand(3, N, D)
    torch.testing.assert_close(ours(queries, codes), theirs(queries, repeated, repeated)[0])


def test_a_layer_is_equations_9_and_10():
    torch.manual_seed(0)
    layer = Layer(D, 2, 16, AUDIO)
    state, queries, codes, audio = (
        torch.randn(3, 5, D),
        torch.randn(3, 5, D),
        torch.randn(N, D),
        torch.randn(3, AUDIO),
    )
    normed = layer.norm(layer.attention(queries, codes) + state, audio)
    torch.testing.assert_close(layer(state, queries, codes, audio), normed + layer.feedforward(normed))


def test_logits_of_every_position():
    logits = transformer()(*inputs())
    assert logits.shape == (3, ROWS * COLUMNS, N)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("queries", ["reference", "state"])
def test_reference_sound_and_place_all_count(queries):
    network = transformer(queries=queries)
    warped, codes, audio = inputs()
    logits = network(warped, codes, audio)
    other = network(warped, codes, audio.flip(0))
    assert (logits[0] - other[0]).abs().max() > 1e-3
    moved = network(warped.flip(0), codes, audio)
    assert (logits[0] - moved[0]).abs().max() > 1e-3
    uniform = network(torch.ones_like(warped), codes, audio)
    assert (uniform[:, 0] - uniform[:, 1]).abs().max() > 1e-3


def test_what_queries_are_made_of_makes_a_difference():
    assert not torch.allclose(transformer()(*inputs()), transformer(queries="state")(*inputs()))


def test_positions_are_row_by_row():
    network = transformer(layers=1)
    warped, codes, audio = inputs(1)
    logits = network(warped, codes, audio)
    changed = warped.clone()
    changed[0, :, 1, 2] += 1
    different = (network(changed, codes, audio) - logits).abs().amax(dim=(0, 2)) > 1e-6
    assert different.nonzero().flatten().tolist() == [1 * COLUMNS + 2]


def test_with_neighbours_a_position_sees_just_those_around_it():
    network = LipTransformer(D, N, 3, 5, AUDIO, layers=1, heads=2, feedforward=16, neighbours=1)
    warped, codes, audio = torch.randn(1, D, 3, 5), torch.randn(N, D), torch.randn(1, AUDIO)
    logits = network(warped, codes, audio)
    changed = warped.clone()
    changed[0, :, 0, 3] += 1
    different = (network(changed, codes, audio) - logits).abs().amax(dim=(0, 2)) > 1e-6
    assert different.view(3, 5).tolist() == [
        [False, False, True, True, True],
        [False, False, True, True, True],
        [False, False, False, False, False],
    ]


@pytest.mark.parametrize("unit", [1e-3, 50.0])
def test_the_unit_of_the_codebook_does_not_matter(unit):
    network = transformer(residual=True)
    warped, codes, audio = inputs()
    torch.testing.assert_close(
        network(warped * unit, codes * unit, audio), network(warped, codes, audio), atol=1e-3, rtol=1e-3
    )


def test_with_residual_it_begins_at_the_reference():
    network = transformer(residual=True)
    _, codes, audio = inputs()
    wanted = torch.randint(N, (3, ROWS, COLUMNS))
    warped = codes[wanted].permute(0, 3, 1, 2)
    logits = network(warped, codes, audio)
    assert torch.equal(logits.argmax(2), wanted.flatten(1))
    # Nothing is added yet, so that only the distances tell the codes apart, by the strength 20.
    unit = codes.square().mean().sqrt()
    distance = (codes[3] - codes[wanted[0, 0, 0]]).square().mean() / unit**2
    assert (logits[0, 0, 3] - logits[0, 0, wanted[0, 0, 0]]).item() == pytest.approx(
        -20 * float(distance), rel=1e-3
    )


def test_the_residual_is_the_strength_times_squared_distances():
    """Up to what all codes have in common, by values and gradients."""
    network = transformer(residual=True).double()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    warped, codes, audio = (x.double() for x in inputs())
    parameters = [network.log_strength, *network.head.parameters()]
    assert network.log_strength is not None
    strength = network.log_strength.exp()
    states = []
    network.head.register_forward_hook(lambda _, inputs, logits: states.append(logits.clone()))
    warped.requires_grad_()
    found = network(warped, codes, audio).log_softmax(2)
    unit = codes.square().mean().sqrt()
    reference = warped.flatten(2).transpose(1, 2)
    distances = (reference[:, :, None] - codes).square().mean(3) / unit**2
    expected = (states[0].view(found.shape) - strength * distances).log_softmax(2)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [
        torch.autograd.grad((x * weights).sum(), [warped, *parameters], retain_graph=True)
        for x in (found, expected)
    ]
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_attention_in_either_precision_is_that_of_the_formula(precision):
    torch.manual_seed(0)
    attention = CrossAttention(64, 2)
    queries, codes = torch.randn(3, 50, 64, requires_grad=True), torch.randn(40, 64)
    weights = torch.randn(3, 50, 64)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (2, 32)).transpose(-3, -2)

    query, key, value = (
        heads(attention.query(queries)),
        heads(attention.key(codes)),
        heads(attention.value(codes)),
    )
    mixed = (query @ key.mT / math.sqrt(32)).softmax(-1) @ value
    expected = attention.output(mixed.transpose(1, 2).flatten(2))
    # The gradient of the keys' bias is 0 but for rounding: no softmax sees what is added to all keys.
    learnt = [queries, *(p for name, p in attention.named_parameters() if name != "key.bias")]
    wanted = torch.autograd.grad((expected * weights).sum(), learnt)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        found = attention(queries, codes)
    assert found.dtype == getattr(torch, precision)
    gradients = torch.autograd.grad((found.float() * weights).sum(), learnt)
    share = 0.02 if precision == "bfloat16" else 1e-5
    for ours, plain in zip((found, *gradients), (expected, *wanted), strict=True):
        assert (ours - plain).norm() <= share * plain.norm()


def test_gradients_are_those_of_finite_differences():
    network = transformer(residual=True, layers=1).double()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    warped, codes, audio = (x.double() for x in inputs(1))

    def entropy(warped: torch.Tensor, audio: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        state = {"position": position}
        logits = torch.func.functional_call(network, state, (warped, codes, audio))
        return F.cross_entropy(logits.flatten(0, 1), torch.arange(ROWS * COLUMNS))

    given = [x.detach().requires_grad_() for x in (warped, audio, network.position)]
    # Logits are float32 at the end.
    assert torch.autograd.gradcheck(entropy, given, eps=1e-2, atol=2e-3, rtol=2e-2)


def test_heads_must_divide_the_dimension():
    with pytest.raises(ValueError, match="dim 8 of the codebook is not a multiple of heads 3"):
        transformer(heads=3)


def test_a_code_is_learned_from_the_sound():
    """Which code is right depends on the sound alone; both ways of asking find out."""
    for queries in ("reference", "state"):
        network = transformer(queries=queries)
        warped, codes, _ = inputs(16)
        torch.manual_seed(2)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(60):
            audio = torch.randn(16, AUDIO)
            wanted = (audio[:, 0] > 0).long()[:, None].expand(-1, ROWS * COLUMNS)
            loss = F.cross_entropy(network(warped, codes, audio).transpose(1, 2), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float(loss) < 0.5 * math.log(2), queries
