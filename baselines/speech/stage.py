"""Training of the acoustic encoder on the texts of clips, without times (CTC: Graves et al., ICML 2006).

Two things are ours. On few sentences a network learns them by heart, so voices are varied: tempo, length of the vocal
tract, masked bands and times (Park et al., "SpecAugment", Interspeech 2019). And CTC begins with a long time in
which blanks are all that is predicted; a text that is spread evenly over the time of its sound shortens it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from baselines.speech.network import BANDS, MEL_RATE, SpeechEncoder, columns_of, rows_of
from baselines.speech.text import BLANK, edits, greedy, numbers, spelt
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from prep.sample_spec import SampleSpec, Sound


class SpeechConfig(Section):
    """The encoder's stage. There is no paper behind it; the reasons for its figures are in docs/speech.md.

    Attributes:
        width: channels, see :class:`baselines.speech.network.SpeechEncoder`; even.
        layers: recurrent layers.
        dropout: see there.
        longest: seconds; longer clips are left out. Prepared clips have at most 10.
        tempo: a sound becomes up to so much slower or faster, as a share.
        tract: the bands are stretched by up to this share, as by a longer or shorter vocal tract.
        masks: of bands and of rows, so many each.
        masked_bands: bands of a mask, at most.
        masked_rows: rows of a mask, at most, 100 a second.
        spread_for: steps in which the evenly spread text fades out; 0: CTC from the start.
        learning_rate: of AdamW, at its highest: it rises over the first tenth of the steps and then falls to 0 as a
            cosine.
        weight_decay: of AdamW.
        train: how the runner trains it; needs ``steps``.
    """

    width: int = Field(512, ge=2, multiple_of=2)
    layers: int = Field(3, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    longest: float = Field(10.0, gt=0)
    tempo: float = Field(0.2, ge=0, lt=1)
    tract: float = Field(0.15, ge=0, lt=1)
    masks: int = Field(2, ge=0)
    masked_bands: int = Field(12, ge=0, lt=BANDS)
    masked_rows: int = Field(8, ge=0)
    spread_for: int = Field(0, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    train: TrainConfig

    @model_validator(mode="after")
    def _the_schedule_has_an_end(self) -> SpeechConfig:
        if self.train.steps is None:
            raise ValueError("give a number of train.steps: the learning rate falls to 0 over them")
        return self

    def build(self) -> SpeechEncoder:
        """Build the network, with torch's default generator."""
        return SpeechEncoder(self.width, self.layers, self.dropout)


class SpeechStage(Stage):
    """Sound and what is said in it.

    Args:
        config: of this stage.
        network: what :meth:`SpeechConfig.build` gave.
    """

    name = "speech"

    def __init__(self, config: SpeechConfig, network: SpeechEncoder) -> None:
        self.config = config
        self.train = config.train
        heard = Sound("mel", columns=1 + math.ceil(MEL_RATE * config.longest))
        self.sample = SampleSpec(window=0, clip_sounds=(heard,), text=True)
        self.networks = {"encoder": network}
        self.frozen = {}
        self.compiled = ()
        self._encoder = network

    def prepare(self, sample: Batch) -> Batch:
        """Write the number of columns as text: a tensor would go to the device, and shapes depend on it."""
        sample["columns"] = str(int(sample.pop("columns_mel")))
        return sample

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW."""
        config = self.config
        return {
            "encoder": AdamW(
                self._encoder.parameters(), config.learning_rate, weight_decay=config.weight_decay
            )
        }

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """A linear rise, then a cosine to 0."""
        steps = self.train.steps or 1
        rise = max(1, steps // 10)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise)))

        return {"encoder": LambdaLR(optimizers["encoder"], factor)}

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """The first step without the spread text, where there is one."""
        return (self.config.spread_for,) if self.config.spread_for else ()

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on CTC's loss, at the beginning mixed with that of the spread text.

        Logs ``loss``, CTC's, in nats a letter; ``spread`` while it is used, in nats a column.
        """
        mel, columns = self._varied(batch["clip_mel"], _columns(batch))
        rows, count = rows_of(mel, columns), [columns_of(n) for n in columns]
        texts = [numbers(text) for text in batch["text"]]
        logits = self._encoder(self._masked(rows), count)
        loss = ctc(logits, count, texts)
        logs, total = {"loss": loss}, loss
        share = 1 - progress.step / self.config.spread_for if self.config.spread_for else 0.0
        if share > 0:
            logs["spread"] = spread(logits, rows, count, texts)
            total = (1 - share) * loss + share * logs["spread"]
        yield Update(total, "encoder", logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Figures of the unchanged sound.

        ``loss``, as in training; ``cer``, the character error rate of a clip by greedy decoding; ``edits`` and
        ``letters`` of a clip, whose quotient is the error rate over all letters.
        """
        columns = _columns(batch)
        count = [columns_of(n) for n in columns]
        logits = self._encoder.hear(batch["clip_mel"], columns).float()
        texts = [numbers(text) for text in batch["text"]]
        heard = [greedy(one[:n]) for one, n in zip(logits.cpu(), count, strict=True)]
        said = [spelt(text) for text in batch["text"]]
        wrong = torch.tensor([edits(*pair) for pair in zip(heard, said, strict=True)], dtype=torch.float32)
        letters = torch.tensor([len(text) for text in said], dtype=torch.float32)
        return {
            "loss": ctc(logits, count, texts),
            "cer": (wrong / letters.clamp(min=1)).mean(),
            "edits": wrong.mean(),
            "letters": letters.mean(),
        }

    def hint(self, logs: Mapping[str, float], progress: Progress) -> str | None:
        """Say when the network is still predicting blanks after half of its steps."""
        if "loss" not in logs or logs["loss"] < 2.7 or 2 * progress.step < (self.train.steps or 1):
            return None
        return (
            "the loss is that of blanks alone (about 2.8): try a lower speech.learning_rate, a longer "
            "speech.spread_for, or check that the texts are those of the clips"
        )

    def _varied(self, mel: Tensor, columns: list[int]) -> tuple[Tensor, list[int]]:
        """Other tempos and vocal tracts, by interpolation of the spectrogram."""
        mel, config = mel[:, :, : max(columns)], self.config
        tempo, tract, shift = torch.rand(3, len(mel), 1) * 2 - 1
        slower = 1 + config.tempo * tempo
        count = [max(4, int(n * by)) for n, by in zip(columns, slower[:, 0].numpy(), strict=True)]
        # Positions in the units of grid_sample: -1 and 1 are the centres of the first and the last column or band.
        time = torch.arange(max(count)) / slower
        bands = torch.arange(BANDS) * (1 + config.tract * tract) + shift * (config.tract > 0)
        across = 2 * time / max(1, mel.shape[2] - 1) - 1
        down = 2 * bands / (BANDS - 1) - 1
        grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=-1)
        grid = grid.to(mel.device, non_blocking=True)
        return F.grid_sample(mel[:, None], grid, align_corners=True, padding_mode="border")[:, 0], count

    def _masked(self, rows: Tensor) -> Tensor:
        """Rows, (B, r, 80), with some bands and some rows at 0, their mean."""
        keep = torch.ones_like(rows)
        for axis, most in ((2, self.config.masked_bands), (1, self.config.masked_rows)):
            places = torch.arange(rows.shape[axis], device=rows.device)
            for _ in range(self.config.masks):
                size, start = torch.rand(2, len(rows), 1, device=rows.device)
                size = (size * (most + 1)).floor()
                start = (start * (rows.shape[axis] - size + 1)).floor()
                kept = (places < start) | (places >= start + size)
                keep = keep * (kept[:, None, :] if axis == 2 else kept[:, :, None])
        return rows * keep


def _columns(batch: Batch) -> list[int]:
    """How many mel columns each sound has; read as text, which stays on the host."""
    return [int(columns) for columns in batch["columns"]]


def ctc(logits: Tensor, count: list[int], texts: list[Tensor]) -> Tensor:
    """The loss of CTC, () float32: nats a letter, mean over sounds; 0 for a sound that is too short for its text.

    Args:
        logits: (B, t, 29).
        count: columns of each sound.
        texts: B of :func:`baselines.speech.text.numbers`.
    """
    chances = logits.float().log_softmax(2).transpose(0, 1)
    letters = torch.cat(texts).to(logits.device, non_blocking=True)
    # On the host, where both are wanted.
    columns, lengths = torch.tensor(count), torch.tensor([len(text) for text in texts])
    return F.ctc_loss(chances, letters, columns, lengths, BLANK, reduction="mean", zero_infinity=True)


def spread(logits: Tensor, rows: Tensor, count: list[int], texts: list[Tensor]) -> Tensor:
    """Cross-entropy with the text spread evenly from the first to the last column that is louder than the mean.

    Args:
        logits: (B, t, 29).
        rows: (B, 2 t, 80), of :func:`baselines.speech.network.rows_of`.
        count: columns of each sound.
        texts: B of :func:`baselines.speech.text.numbers`.

    Returns:
        () float32, nats a column, mean over sounds; sounds without text or without anything louder count as 0.
    """
    places = torch.arange(logits.shape[1], device=logits.device)
    ends = torch.tensor([[n, len(text)] for n, text in zip(count, texts, strict=True)])
    end, length = ends.to(logits.device, non_blocking=True).T[..., None]
    loud = (rows[:, ::2].mean(2) > 0) & (places < end) & (length > 0)
    first = torch.where(loud, places, len(places)).amin(1, keepdim=True)
    last = torch.where(loud, places, -1).amax(1, keepdim=True)
    inside = (places >= first) & (places <= last)
    letter = (places - first) * length // (last - first + 1).clamp(min=1)
    spelt_out = pad_sequence(texts, batch_first=True).to(logits.device, non_blocking=True)
    if not spelt_out.shape[1]:
        return logits.sum() * 0
    wanted = spelt_out.gather(1, letter.clamp(0, spelt_out.shape[1] - 1))
    losses = F.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none") * inside
    return (losses.sum(1) / inside.sum(1).clamp(min=1)).mean()
