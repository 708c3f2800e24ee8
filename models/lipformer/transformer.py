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
        query = self.query(queries).unflatten(2, (self.heads, -1)).transpose(1, 2)
        # One set of keys and values serves the whole batch.
        key = self.key(codes).unflatten(1, (self.heads, -1)).transpose(0, 1).expand(len(query), -1, -1, -1)
        value = (
            self.value(codes).unflatten(1, (self.heads, -1)).transpose(0, 1).expand(len(query), -1, -1, -1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


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
        logits = full(self.head(state))
        if self.log_strength is not None:
            logits = logits - self.log_strength.exp() * squared_distances(reference, codes)
        return logits


def squared_distances(found: Tensor, codes: Tensor) -> Tensor:
    """(B, P, d) float and (n, d) float → (B, P, n) float32: squared Euclidean distances by d."""
    # Differences of squares lose too much in half precision.
    with torch.autocast(found.device.type, enabled=False):
        found, codes = full(found), full(codes)
        squares = found.square().sum(2, keepdim=True) + codes.square().sum(1)
        return (squares - 2 * found @ codes.T).clamp(min=0) / codes.shape[1]
