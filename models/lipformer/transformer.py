"""LipFormer's transformer: lip codes from a warped reference, the codebook and the sound (section 3.2, eq. 8-10)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.precision import full

#: What the queries of a layer are made of, see :class:`LipTransformer`.
Queries = Literal["reference", "state"]

# Initial weight of the similarity of the warped reference to each code: the value at which the similarity alone
# predicts held-out codes best, to a factor of two, after a short training on the embedded corpus.
_STRENGTH = 20.0


class ConditionalLayerNorm(nn.Module):
    """Layer normalisation whose scale γ' and shift β' are linear in a condition (equation 10).

    It starts close to plain layer normalisation.

    Args:
        dim: elements that are normalised.
        condition: elements of the condition.
    """

    def __init__(self, dim: int, condition: int) -> None:
        super().__init__()
        self.dim = dim
        self.modulation = nn.Linear(condition, 2 * dim)
        nn.init.normal_(self.modulation.weight, std=0.02)
        assert self.modulation.bias is not None
        with torch.no_grad():
            self.modulation.bias[:dim] = 1
            self.modulation.bias[dim:] = 0

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, P, dim) float and (B, condition) float → (B, P, dim) float."""
        scale, shift = self.modulation(condition).unsqueeze(1).chunk(2, dim=2)
        return F.layer_norm(x, (self.dim,)) * scale + shift


class CrossAttention(nn.Module):
    """Multi-head attention whose keys and values are the codebook (equation 8 and 9, without the residual).

    Scores are scaled by the root of a head's size, as in the transformer that the paper builds on; equation 9 leaves
    that out, and at 256 elements a softmax of unscaled scores is almost one-hot.

    Args:
        dim: d, elements of an encoding.
        heads: a divisor of ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, codes: Tensor) -> Tensor:
        """(B, P, dim) float and (n, dim) float → (B, P, dim) float."""
        # One set of keys and values serves the whole batch, whose positions are therefore queries of one sequence.
        query, key, value = (
            x.unflatten(1, (self.heads, -1)).transpose(0, 1)
            for x in (self.query(queries.flatten(0, 1)), self.key(codes), self.value(codes))
        )
        mixed = _attended(query, key, value)
        return self.output(mixed.transpose(0, 1).flatten(1)).view_as(queries)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(heads, Q, e), (heads, n, e) and (heads, n, e) float → (heads, Q, e) float."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # Torch's fused attention takes a processor twice as long as plain products, which it has instructions for.
        with torch.autocast("cpu", enabled=False):
            scores = query @ (key / math.sqrt(key.shape[2])).transpose(1, 2)
            return scores.softmax(2) @ value
    return F.scaled_dot_product_attention(query[None], key[None], value[None])[0]


class FeedForward(nn.Sequential):
    """Two layers and GELU between; positions may see those around them.

    Args:
        dim: d.
        hidden: elements between.
        neighbours: how many positions each one sees to either side; 0 in other transformers.
        columns: w', the number of positions in a row.
    """

    def __init__(self, dim: int, hidden: int, neighbours: int, columns: int) -> None:
        enter = _Around(dim, hidden, neighbours, columns) if neighbours else nn.Linear(dim, hidden)
        super().__init__(enter, nn.GELU(), nn.Linear(hidden, dim))


class _Around(nn.Module):
    """A convolution over positions that stand row by row: (B, P, dim) float → (B, P, hidden) float."""

    def __init__(self, dim: int, hidden: int, neighbours: int, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.conv = nn.Conv2d(dim, hidden, 2 * neighbours + 1, padding=neighbours)

    def forward(self, state: Tensor) -> Tensor:
        grid = state.transpose(1, 2).unflatten(2, (-1, self.columns))
        return self.conv(grid).flatten(2).transpose(1, 2)


class Layer(nn.Module):
    """Attention to the codebook with residual, layer normalisation by the sound, feed-forward with residual.

    Args:
        dim: d.
        heads: of attention.
        feedforward: inner size of the feed-forward network.
        audio: elements of F_Aud.
        neighbours: see :class:`FeedForward`.
        columns: see :class:`FeedForward`.
    """

    def __init__(
        self, dim: int, heads: int, feedforward: int, audio: int, neighbours: int = 0, columns: int = 1
    ) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, heads)
        self.norm = ConditionalLayerNorm(dim, audio)
        self.feedforward = FeedForward(dim, feedforward, neighbours, columns)

    def forward(self, state: Tensor, queries: Tensor, codes: Tensor, audio: Tensor) -> Tensor:
        """Z_i (B, P, dim), what queries are made of (B, P, dim), C_B (n, dim), F_Aud (B, audio) → Z_{i+1}."""
        state = self.norm(self.attention(queries, codes) + state, audio)
        return state + self.feedforward(state)


class LipTransformer(nn.Module):
    """Tr: logits of the lip codes of one frame.

    Encodings and codes are divided by the codebook's root mean square, so that nothing depends on its unit.

    Args:
        dim: d, elements of an encoding.
        codes: n, entries of C_B.
        rows: h', of the lower half in latent space.
        columns: w'.
        audio: elements of F_Aud.
        layers: N.
        heads: of attention, a divisor of ``dim``.
        feedforward: inner size of the feed-forward networks.
        queries: ``reference``: the queries of every layer are the warped reference, as in equation 8; ``state``: they
            are Z_i, as in other transformers.
        residual: the logits are added to the similarity of the warped reference to each code; the layers' share starts
            at 0, so that the lips start as the reference's. It is not in the paper.
        neighbours: how many positions to each side the feed-forward networks see; 0 as in the paper, where no position
            depends on another one.

    Raises:
        ValueError: ``dim`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        dim: int,
        codes: int,
        rows: int,
        columns: int,
        audio: int,
        layers: int = 9,
        heads: int = 8,
        feedforward: int = 1024,
        queries: Queries = "reference",
        residual: bool = False,
        neighbours: int = 0,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} of the codebook is not a multiple of heads {heads}")
        self.queries = queries
        self.position = nn.Parameter(torch.randn(rows * columns, dim) / 2)
        self.layers = nn.ModuleList(
            Layer(dim, heads, feedforward, audio, neighbours, columns) for _ in range(layers)
        )
        self.head = nn.Linear(dim, codes)
        self.log_strength: nn.Parameter | None = None
        if residual:
            self.log_strength = nn.Parameter(torch.tensor(math.log(_STRENGTH)))
            nn.init.zeros_(self.head.weight)
            assert self.head.bias is not None
            nn.init.zeros_(self.head.bias)

    def forward(self, warped: Tensor, codes: Tensor, audio: Tensor) -> Tensor:
        """The logits S before their softmax.

        Args:
            warped: H_RB at the target's pose, (B, dim, h', w') float.
            codes: C_B, (n, dim) float.
            audio: F_Aud, (B, audio) float.

        Returns:
            (B, h' w', n) float32, positions row by row.
        """
        unit = full(codes.detach()).square().mean().sqrt().clamp(min=1e-8)
        codes = codes / unit
        reference = warped.flatten(2).transpose(1, 2) / unit
        state = queries = reference + self.position
        for layer in self.layers:
            state = layer(state, queries if self.queries == "reference" else state, codes, audio)
        logits = full(self.head(state.flatten(0, 1)))
        if self.log_strength is not None:
            logits = _nearer(logits, reference.flatten(0, 1), codes, self.log_strength.exp() / codes.shape[1])
        return logits.unflatten(0, state.shape[:2])


def _nearer(logits: Tensor, found: Tensor, codes: Tensor, strength: Tensor) -> Tensor:
    """Logits less ``strength`` times the squared distance of each code, but for what all codes have in common.

    |r - c|² = |r|² - 2 r·c + |c|², of which |r|² changes no softmax; the rest is one product, added in place.

    Args:
        logits: (R, n) float32 or float64, which are overwritten.
        found: r, (R, d) float.
        codes: c, (n, d) float.
        strength: () float.
    """
    # Differences of squares lose too much in half precision.
    with torch.autocast(found.device.type, enabled=False):
        found, codes = full(found), full(codes)
        # The last column of either is for |c|².
        left = strength * torch.cat([2 * found, found.new_full((len(found), 1), -1)], dim=1)
        right = torch.cat([codes, codes.square().sum(1, keepdim=True)], dim=1)
        return logits.addmm_(left, right.T)
