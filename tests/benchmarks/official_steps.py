"""Training steps as the official scripts make them, for every stage: what the runner's steps are compared with.

Float32 and torch's defaults throughout; one Adam per network, as ``torch.optim`` makes it; all losses and their order
as in the scripts, with what they compute more than once: VGG-19's features of the truth for each loss, a
discriminator's pass over generated pictures for each side, gradients of the discriminator's weights from the
generator's loss, which nobody uses. Every step reads its losses, as their progress bars do. LipFormer and the expert's
variant of this suite have no public training code: equations 4 and 11 in the order in which they are written.

One thing is not official: IP-LAP's script leaves the generator's gradient in the discriminator. Here it is removed, as
in the suite, for only steps with the same losses can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from baselines.wav2lip.network import HALF
from models.base import Batch, Progress, Stage
from models.ipl.landmark import POSE
from models.layers.stylegan2 import r1_penalty
from models.layers.vgg import MEAN, STD, VGG19
from tests.benchmarks.plain_modules import (
    Maps,
    decode,
    encode,
    lip_logits,
    look_up,
    nearest,
    paint,
    patch_maps,
    quality,
    render,
    sequence,
    style_logits,
    vgg_maps,
)

#: A batch and the number of the step → its losses by name.
Step = Callable[[Batch, int], dict[str, float]]


def prepared(stage: Stage) -> dict[str, Optimizer]:
    """Networks in the modes that scripts set, and an Adam with torch's defaults in place of each optimizer."""
    for network in stage.networks.values():
        network.train().requires_grad_(True)
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    kept = ("params", "lr", "betas", "eps", "weight_decay")
    return {
        name: Adam([{key: group[key] for key in kept} for group in optimizer.param_groups])
        for name, optimizer in stage.optimizers().items()
    }


def read(losses: dict[str, Tensor]) -> dict[str, float]:
    """Figures of losses."""
    return {name: loss.item() for name, loss in losses.items()}


# IP-LAP -------------------------------------------------------------------------------------------------------------


def render_step(stage: Any, maps_once: bool = True) -> Step:
    """``train_video_renderer.py``.

    Args:
        stage: IP-LAP's ``render``.
        maps_once: False: as the script, which computes the SPADE maps of the target's sketches for each reference.
    """
    optimizers, config = prepared(stage), stage.config
    renderer, discriminator, vgg = (
        stage.networks["renderer"],
        stage.networks["discriminator"],
        stage.frozen["vgg"],
    )

    def step(batch: Batch, number: int) -> dict[str, float]:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        inputs = _render_inputs(batch)
        truth = inputs[0]
        warped, face = render(renderer, inputs, maps_once)
        losses = {}
        losses["L_r"], losses["L_s"] = _perceptual_and_style(vgg, face, truth)
        losses["L_w"], _ = _perceptual_and_style(vgg, warped, truth, style=False)
        fake = _least_squares(patch_maps(discriminator, face.detach()), 0.0)
        real = patch_maps(discriminator, truth)
        losses["L_d"] = (fake + _least_squares(real, 1.0)) * 0.5
        judged = patch_maps(discriminator, face)
        losses["L_g"] = _least_squares(judged, 1.0)
        matching = [
            F.l1_loss(a, b.detach()) / len(judged)
            for of_fake, of_real in zip(judged, real, strict=True)
            for a, b in zip(of_fake[:-1], of_real[:-1], strict=True)
        ]
        losses["L_f"] = sum(matching, start=torch.zeros(()))
        weights = {
            "L_w": config.lambda_w,
            "L_r": config.lambda_r,
            "L_s": config.lambda_s,
            "L_g": config.lambda_g,
            "L_f": config.lambda_f,
        }
        sum(weight * losses[name] for name, weight in weights.items()).backward()
        optimizers["generator"].step()
        optimizers["discriminator"].zero_grad()
        losses["L_d"].backward()
        optimizers["discriminator"].step()
        return read(losses)

    return step


def _render_inputs(batch: Batch) -> tuple[Tensor, ...]:
    pictures = {name: batch[name].flip(-3).float() / 255 for name in ("target", "references")}
    sketches = {
        name: (batch[name].float() / 255).unsqueeze(2).repeat(1, 1, 3, 1, 1)
        for name in ("sketches", "reference_sketches")
    }
    return (
        pictures["target"],
        sketches["sketches"],
        pictures["references"],
        sketches["reference_sketches"],
        batch["mel"],
    )


def _perceptual_and_style(
    vgg: VGG19, found: Tensor, wanted: Tensor, style: bool = True
) -> tuple[Tensor, Tensor]:
    """At two resolutions; the style at the first."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    found, wanted = ((((picture + 1) / 2) - mean) / std for picture in (found, wanted))
    loss = difference = torch.zeros(())
    for scale in range(2):
        for a, b in zip(vgg_maps(vgg, found), vgg_maps(vgg, wanted), strict=True):
            loss = loss + F.l1_loss(a, b.detach())
            if style and scale == 0:
                difference = difference + F.l1_loss(_gram(a), _gram(b.detach()))
        if scale == 0:
            found, wanted = (
                F.interpolate(picture, scale_factor=0.5, mode="bilinear", align_corners=False)
                for picture in (found, wanted)
            )
    return loss, difference


def _gram(features: Tensor) -> Tensor:
    flat = features.flatten(2)
    return flat.bmm(flat.transpose(1, 2)) / flat[0].numel()


def _least_squares(scores: Maps, wanted: float) -> Tensor:
    losses = [F.mse_loss(maps[-1], torch.full_like(maps[-1], wanted)) for maps in scores]
    return sum(losses, start=torch.zeros(()))


def landmark_step(stage: Any) -> Step:
    """``train_landmarks_generator.py``."""
    optimizer = prepared(stage)["landmark"]
    network = stage.networks["landmark"]

    def step(batch: Batch, number: int) -> dict[str, float]:
        optimizer.zero_grad()
        points, references = batch["landmarks"], batch["reference_landmarks"].transpose(2, 3)
        predicted = network(
            batch["frame_mel"].unsqueeze(2),
            points[:, :, :POSE].transpose(2, 3),
            references[..., :POSE],
            references[..., POSE:],
        )
        truth = points[:, :, POSE:]
        moved = (predicted - truth).diff(dim=1) + 1e-6
        losses = {"L1": F.l1_loss(predicted, truth), "velocity": moved.flatten(2).norm(dim=2).mean()}
        (losses["L1"] + losses["velocity"]).backward()
        optimizer.step()
        return read(losses)

    return step


# Wav2Lip and its expert -------------------------------------------------------------------------------------------


def wav2lip_step(stage: Any) -> Step:
    """``hq_wav2lip_train.py``, with the expert's loss on."""
    optimizers, config = prepared(stage), stage.config
    generator, discriminator, expert = (
        stage.networks["generator"],
        stage.networks["discriminator"],
        stage.frozen["expert"],
    )

    def step(batch: Batch, number: int) -> dict[str, float]:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        truth, references = (
            (batch[name].float() / 255).flatten(0, 1).flip(1) for name in ("images", "reference_images")
        )
        shown = truth.clone()
        shown[:, :, HALF:] = 0
        painted = paint(generator, batch["frame_mel"].flatten(0, 1), torch.cat([shown, references], dim=1))
        lips = painted[:, :, HALF:].unflatten(0, batch["images"].shape[:2]).flatten(1, 2)
        heard = F.normalize(sequence(expert.audio_encoder, batch["window_mel"].unsqueeze(1)).flatten(1))
        seen = F.normalize(sequence(expert.face_encoder, lips).flatten(1))
        likeness = F.cosine_similarity(heard, seen).clamp(1e-5, 1 - 1e-5)
        losses = {"sync": F.binary_cross_entropy(likeness, torch.ones(len(likeness)))}
        judged = quality(discriminator, painted)
        losses["gan"] = F.binary_cross_entropy(judged, torch.ones(len(judged), 1))
        losses["L1"] = F.l1_loss(painted, truth)
        like = 1 - config.sync_weight - config.gan_weight
        loss = config.sync_weight * losses["sync"] + config.gan_weight * losses["gan"] + like * losses["L1"]
        loss.backward()
        optimizers["generator"].step()
        optimizers["discriminator"].zero_grad()
        for name, frames, label in (("real", truth, 1.0), ("fake", painted.detach(), 0.0)):
            judged = quality(discriminator, frames)
            losses[name] = F.binary_cross_entropy(judged, torch.full((len(judged), 1), label))
            losses[name].backward()
        optimizers["discriminator"].step()
        return read(losses)

    return step


def expert_step(stage: Any) -> Step:
    """``color_syncnet_train.py`` with this suite's pairs of windows and sounds, before near sound takes part."""
    optimizer = prepared(stage)["expert"]
    config, expert = stage.config, stage.networks["expert"]
    distances = config.distances()

    def step(batch: Batch, number: int) -> dict[str, float]:
        optimizer.zero_grad()
        starts = [config.stride * k for k in range(config.windows)]
        lips = torch.stack([_window(batch["images"], start) for start in starts], dim=1)
        lips = lips.flatten(0, 1)
        mirrored = torch.rand(len(lips), 1, 1, 1) < 0.5
        lips = torch.where(mirrored, lips.flip(-1), lips)
        sounds = batch["frame_mel"][:, starts]
        heard = F.normalize(sequence(expert.audio_encoder, sounds.flatten(0, 1).unsqueeze(1)).flatten(1))
        seen = F.normalize(sequence(expert.face_encoder, lips).flatten(1))
        heard, seen = (found.unflatten(0, sounds.shape[:2]) for found in (heard, seen))
        cosines = (seen @ heard.transpose(1, 2)).clamp(1e-5, 1 - 1e-5)
        right, wrong = cosines[:, distances == 0], cosines[:, distances >= config.far]
        right_loss = F.binary_cross_entropy(right, torch.ones_like(right))
        losses = {"loss": (right_loss + F.binary_cross_entropy(wrong, torch.zeros_like(wrong))) / 2}
        losses["loss"].backward()
        optimizer.step()
        return read(losses)

    return step


def _window(images: Tensor, start: int) -> Tensor:
    """The lower halves of five frames, BGR, (B, 15, 48, 96); all frames from the first window on are given."""
    frames = images[:, start : start + 5].float() / 255
    return frames[:, :, :, HALF:].flip(2).flatten(1, 2)


# LipFormer ----------------------------------------------------------------------------------------------------------


def codebook_step(stage: Any) -> Step:
    """Equation 4, then the discriminator's loss; codes are neither placed nor restarted here."""
    optimizers, config = prepared(stage), stage.config
    encoder, decoder = stage.networks["encoder"], stage.networks["decoder"]
    codebooks = stage.networks["upper"], stage.networks["lower"]

    def step(batch: Batch, number: int) -> dict[str, float]:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        truth = batch["picture"].float() / 255
        values, distance = [], torch.zeros(())
        for half, codebook in zip(truth.chunk(2, dim=2), codebooks, strict=True):
            features = encode(encoder, half)
            found = look_up(codebook, nearest(codebook, features))
            distance = distance + F.mse_loss(found, features.detach())
            distance = distance + config.beta * F.mse_loss(features, found.detach())
            values.append(features + (found - features).detach())
        made = decode(decoder, *values)
        losses = {"vq": distance, **_face_losses(stage, made, truth)}
        weighted = losses["vq"] + _weighted(config, losses)
        weighted.backward()
        optimizers["autoencoder"].step()
        _judge(stage, optimizers["discriminator"], losses, truth, made.detach(), number)
        return read(losses)

    return step


def lipformer_step(stage: Any) -> Step:
    """Equation 11, then the discriminator's loss."""
    optimizers, config, lips = prepared(stage), stage.config, stage.lips

    def codes_of(half: Tensor, codebook: Any) -> Tensor:
        with torch.no_grad():
            return nearest(codebook, encode(lips.encoder, half))

    def step(batch: Batch, number: int) -> dict[str, float]:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        truth, reference = (batch[name].float() / 255 for name in ("target", "reference"))
        tops, bottoms = zip(*(picture.chunk(2, dim=2) for picture in (truth, reference)), strict=True)
        upper = look_up(lips.upper, codes_of(tops[0], lips.upper))
        still = look_up(lips.upper, codes_of(tops[1], lips.upper))
        moved = lips.warp(upper, still, look_up(lips.lower, codes_of(bottoms[1], lips.lower)))
        audio = sequence(lips.audio.layers, batch["mel"].unsqueeze(1)).flatten(1)
        logits = lip_logits(lips.transformer, moved, lips.lower.codes, audio)
        shares = _gumbel_softmax(logits.movedim(1, -1), config.temperature_at(number))
        made = decode(lips.decoder, upper, (shares @ lips.lower.codes).movedim(-1, 1))
        losses = {"cross_entropy": F.cross_entropy(logits, codes_of(bottoms[0], lips.lower))}
        losses.update(_face_losses(stage, made, truth))
        weighted = config.cross_entropy_weight * losses["cross_entropy"] + _weighted(config, losses)
        weighted.backward()
        optimizers["lipformer"].step()
        _judge(stage, optimizers["discriminator"], losses, truth, made.detach(), number)
        return read(losses)

    return step


def _gumbel_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Straight through, codes last."""
    noise = torch.rand_like(logits).log().neg().log().neg()
    shares = ((logits + noise) / temperature).softmax(dim=-1)
    sampled = F.one_hot(shares.argmax(dim=-1), shares.shape[-1]).to(shares.dtype)
    return sampled + (shares - shares.detach())


def _face_losses(stage: Any, made: Tensor, truth: Tensor) -> dict[str, Tensor]:
    goals = _unit_features(stage.frozen["vgg"], truth)
    found = _unit_features(stage.frozen["vgg"], made)
    apart = [(a - b.detach()).square().sum(1).mean() for a, b in zip(found, goals, strict=True)]
    adversarial = F.softplus(-style_logits(stage.networks["discriminator"], made)).mean()
    return {
        "L2": F.mse_loss(made, truth),
        "perceptual": torch.stack(apart).mean(),
        "adversarial": adversarial,
    }


def _unit_features(vgg: VGG19, pictures: Tensor) -> list[Tensor]:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return [F.normalize(maps, dim=1, eps=1e-3) for maps in vgg_maps(vgg, (pictures - mean) / std)]


def _weighted(config: Any, losses: dict[str, Tensor]) -> Tensor:
    return (
        config.pixel_weight * losses["L2"]
        + config.perceptual_weight * losses["perceptual"]
        + config.adversarial_weight * losses["adversarial"]
    )


def _judge(
    stage: Any, optimizer: Optimizer, losses: dict[str, Tensor], real: Tensor, fake: Tensor, number: int
) -> None:
    """The discriminator's step, with R1 in every so many."""
    discriminator, config = stage.networks["discriminator"], stage.config
    optimizer.zero_grad()
    regularised = number % config.r1_every == 0
    real = real.detach().requires_grad_(regularised)
    on_real = style_logits(discriminator, real)
    on_fake = style_logits(discriminator, fake)
    loss = losses["discriminator"] = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    if regularised:
        losses["r1"] = r1_penalty(real, on_real)
        loss = loss + config.r1_weight / 2 * config.r1_every * losses["r1"]
    loss.backward()
    optimizer.step()


# Any stage ----------------------------------------------------------------------------------------------------------


def generic_step(stage: Stage) -> Step:
    """A loop over the stage's own losses: for stages without a script, and for what the runner itself costs."""
    optimizers = prepared(stage)

    def step(batch: Batch, number: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for update in stage.updates(batch, Progress(number, 1_000.0)):
            optimizers[update.optimizer].zero_grad()
            update.loss.backward()
            optimizers[update.optimizer].step()
            # Where one side kept its gradients, the other would have to find fresh memory at every step.
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            found.update(read(dict(update.logs)))
        return found

    return step


#: (method, stage) → its step.
OFFICIAL: dict[tuple[str, str], Callable[[Any], Step]] = {
    ("ipl", "landmark"): landmark_step,
    ("ipl", "render"): render_step,
    ("wav2lip", "wav2lip"): wav2lip_step,
    ("sync-expert", "expert"): expert_step,
    ("lipformer", "codebook"): codebook_step,
    ("lipformer", "lipformer"): lipformer_step,
}


def plain_step(method: str, stage: Stage) -> Step:
    """The official step of a stage, :func:`generic_step` where there is none."""
    return OFFICIAL.get((method, stage.name), generic_step)(stage)
