"""The acoustic encoder: a mel spectrogram becomes logits of 29 symbols, 50 a second.

It is the suite's own. The form of its output is that of DeepSpeech 0.1 (Hannun et al. 2014; Mozilla's frozen graph),
which AD-NeRF and DINet hear; the network is the usual one for CTC (Graves et al., ICML 2006): convolutions, then
recurrent layers in both directions (Amodei et al., "Deep Speech 2", ICML 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.speech.text import SYMBOLS

#: Columns of logits a second.
RATE = 50
#: Mel columns a second, and bands.
MEL_RATE, BANDS = 80, 80


def columns_of(mel_columns: int) -> int:
    """Number of columns of logits for a number of mel columns: 2 a frame of 25 fps, as of DeepSpeech.

    A sound of T frames, 640 T samples, has 1 + 16 T // 5 mel columns; any of these numbers gives 2 T.
    """
    return 2 * ((5 * mel_columns) // 16)


class SpeechEncoder(nn.Module):
    """Mel spectrogram → logits.

    Args:
        width: channels of the convolutions, and outputs of a recurrent layer, half of them of each direction; even.
        layers: recurrent layers.
        dropout: in training, before and between recurrent layers and before the output.
    """

    def __init__(self, width: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                _Block(BANDS, width, 7, stride=2),
                _Block(width, width, 5),
                _Block(width, width, 5),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.GRU(
            width,
            width // 2,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.output = nn.Linear(width, SYMBOLS)

    def hear(self, mel: Tensor, columns: Sequence[int]) -> Tensor:
        """Logits of some sounds.

        Args:
            mel: (B, 80, C) float32 in [-4, 4], 80 columns a second; what lies behind a sound's end is not read.
            columns: B numbers of columns that are the sound's, at least 4 each.

        Returns:
            (B, t, 29) float32, raw; column ``j`` belongs to the 25 ms from ``j / 50`` s on, as one of DeepSpeech. t
            is the largest of :func:`columns_of`; columns behind a sound's end mean nothing.
        """
        logits: Tensor = self(rows_of(mel, columns), [columns_of(n) for n in columns])
        return logits

    def forward(self, rows: Tensor, count: Sequence[int]) -> Tensor:
        """(B, 2 t, 80) of :func:`rows_of` and the number of columns of each sound → logits (B, t, 29)."""
        heard, there = rows, _there(count, rows.shape[1] // 2, rows.device)
        for block in self.convolutions:
            # Else the last columns would depend on what else is in the batch.
            heard = block(heard) * there
        packed = pack_padded_sequence(
            self.dropout(heard), torch.tensor(count), batch_first=True, enforce_sorted=False
        )
        found, _ = pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=heard.shape[1]
        )
        logits: Tensor = self.output(self.dropout(found))
        return logits


def rows_of(mel: Tensor, columns: Sequence[int]) -> Tensor:
    """100 rows a second, each centred as a row of DeepSpeech's MFCC, of mean 0 over the time of their sound.

    Row ``k`` is centred on sample ``160 k + 200``, that is on mel column ``0.8 k + 1``; it is interpolated.

    Args:
        mel: (B, 80, C).
        columns: B numbers of columns that are the sound's.

    Returns:
        (B, r, 80) float32, r = 2 max :func:`columns_of`; 0 behind the end of a sound.
    """
    rows = [2 * columns_of(n) for n in columns]
    # Numbers of the sounds are known on the host: nothing here waits for a device.
    last = (torch.tensor(columns) - 1)[:, None].to(mel.device, non_blocking=True)
    at = (0.8 * torch.arange(max(rows), device=mel.device) + 1).minimum(last)  # (B, r)
    left = at.long()
    share = (at - left)[..., None]
    bands = mel.transpose(1, 2)

    def picked(place: Tensor) -> Tensor:
        return bands.gather(1, place[..., None].expand(-1, -1, mel.shape[1]))

    values = picked(left) * (1 - share) + picked((left + 1).minimum(last)) * share
    there = _there(rows, max(rows), mel.device)
    mean = (values * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
    return (values - mean) * there / 2


def _there(count: Sequence[int], length: int, device: torch.device) -> Tensor:
    """(B, length, 1) bool: whether a place is before the end of its sound."""
    ends = torch.tensor(count).to(device, non_blocking=True)
    return (torch.arange(length, device=device) < ends[:, None])[..., None]


class _Block(nn.Module):
    """Convolution over time, normalisation of each row by itself, GELU: (B, t, c) → (B, t / stride, c')."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, rows: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(rows.transpose(1, 2)).transpose(1, 2)))
