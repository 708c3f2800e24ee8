"""What ATVGnet's networks are made of; keys are those of the official checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.narrow import Conv2d


def conv(cin: int, cout: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU (``conv2d`` of ``ops.py``)."""
    return nn.Sequential(
        Conv2d(cin, cout, kernel, stride, padding, bias=False), nn.BatchNorm2d(cout), nn.ReLU()
    )


def doubled(cin: int, cout: int, bias: bool) -> tuple[nn.Module, ...]:
    """A transposed convolution to twice the height and width, batch normalisation, ReLU."""
    up = nn.ConvTranspose2d(cin, cout, 3, 2, 1, output_padding=1, bias=bias)
    return up, nn.BatchNorm2d(cout), nn.ReLU()


def channels(count: int, width: float, least: int = 1) -> int:
    """So many channels times ``width``, at least ``least`` of them, unless the code has fewer."""
    return max(min(least, count), round(count * width))


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input, with dropout between them.

    Args:
        width: channels.
        dropout: rate (code: 0.5).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        added: Tensor = x + self.conv_block(x)
        return added


class ConvGRU(nn.Module):
    """A gated recurrent unit (Cho et al., EMNLP 2014) over maps, of 3 × 3 convolutions with holes.

    Args:
        cin: channels of the input.
        cout: channels of the state.
    """

    #: Distance of the weights of a convolution, pixels.
    DILATION = 2

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * cout, cin, 3, 3))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * cout, cout, 3, 3))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * cout))
        self.bias_hh_l0 = nn.Parameter(torch.empty(3 * cout))
        bound = cout**-0.5
        for weights in self.parameters():
            nn.init.uniform_(weights, -bound, bound)

    def forward(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Recur over the first axis.

        Args:
            maps: (T, B, C, H, W) float.
            state: (B, C', H, W), that after the maps before; None: 0.

        Returns:
            (T, B, C', H, W) states, and the last of them.
        """
        steps, batch = maps.shape[:2]
        given = self._convolved(maps.flatten(0, 1), self.weight_ih_l0, self.bias_ih_l0)
        given = given.unflatten(0, (steps, batch))
        if state is None:
            state = given.new_zeros(batch, given.shape[2] // 3, *given.shape[3:])
        states = []
        for one in given:
            kept = self._convolved(state, self.weight_hh_l0, self.bias_hh_l0)
            (r, z, n), (kept_r, kept_z, kept_n) = one.chunk(3, dim=1), kept.chunk(3, dim=1)
            new = torch.tanh(n + torch.sigmoid(r + kept_r) * kept_n)
            state = new + torch.sigmoid(z + kept_z) * (state - new)
            states.append(state)
        return torch.stack(states), state

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=self.DILATION, dilation=self.DILATION)


def initialise(network: nn.Module) -> None:
    """The code's first weights: of convolutions and linear layers normal, 0 and 0.02, biases 0.

    Scales of batch normalisation are normal, 1 and 0.02. Recurrent layers keep torch's.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
