"""Forward passes over the suite's networks, layer by layer, without anything that makes them faster.

They take the weights of the suite's modules and make of them what the official code would, one torch operation after
the other, so that what the modules do instead can be compared: in figures and in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.network import Generator
from models.ipl.renderer import Renderer
from models.layers.conv import ConvBlock
from models.layers.patchgan import PatchGAN
from models.layers.stylegan2 import StyleGAN2Discriminator
from models.layers.vgg import TAPS, VGG19
from models.lipformer.autoencoder import AttentionBlock, FaceDecoder, FaceEncoder, ResidualBlock
from models.lipformer.codebook import Codebook
from models.lipformer.transformer import LipTransformer

Maps = list[list[Tensor]]


def sequence(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Layer after layer; blocks of the suite in their plain form."""
    for layer in layers:
        x = _PLAIN.get(type(layer), _as_it_is)(layer, x)
    return x


def conv_block(block: Any, x: Tensor) -> Tensor:
    """Convolution, batch normalisation, residual, activation: of Wav2Lip and IP-LAP."""
    convolution, normalisation = block.conv_block
    made = normalisation(convolution(x))
    return block.act(made + x if getattr(block, "residual", False) else made)


def residual_block(block: Any, x: Tensor) -> Tensor:
    """Of VQGAN."""
    return x + sequence(block.layers, x)


def attention_block(block: Any, x: Tensor) -> Tensor:
    """Of VQGAN: one head over all positions."""
    query, key, value = block.project_in(block.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return x + block.project_out(mixed.transpose(1, 2).reshape(x.shape))


def _as_it_is(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x)


_PLAIN: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    ConvBlock: conv_block,
    ResidualBlock: residual_block,
    AttentionBlock: attention_block,
    nn.Sequential: sequence,
}


def vgg_maps(vgg: VGG19, pictures: Tensor) -> list[Tensor]:
    """The five maps of normalised pictures."""
    maps = []
    for place, layer in enumerate(vgg.features):
        pictures = layer(pictures)
        if place in TAPS:
            maps.append(pictures)
    return maps


def patch_maps(discriminator: PatchGAN, pictures: Tensor) -> Maps:
    """The maps of each scale and layer."""
    found: Maps = []
    for scale in range(discriminator.scales):
        if scale:
            pictures = F.avg_pool2d(pictures, 3, stride=2, padding=1, count_include_pad=False)
        x, maps = pictures, []
        for layer in range(discriminator.depth):
            name = f"scale{discriminator.scales - 1 - scale}_layer{layer}"
            x = discriminator.get_submodule(name)(x)
            maps.append(x)
        found.append(maps)
    return found


# IP-LAP's renderer ------------------------------------------------------------------------------------------------


def render(renderer: Renderer, inputs: tuple[Tensor, ...], maps_once: bool = True) -> tuple[Tensor, Tensor]:
    """Warped references and the face, each (B, 3, H, W); ``inputs`` as the renderer takes them.

    Args:
        renderer: without ``shrink`` and ``residual``.
        inputs: face, sketches, references, reference sketches, mels.
        maps_once: what target sketches do to the alignment module is computed once for all references; the official
            code computes it anew for each.
    """
    face, sketches, references, reference_sketches, mels = inputs
    driving = sketches.flatten(1, 2)
    warped = _align(renderer.flow_module, references, reference_sketches, driving, maps_once)
    shown = face.clone()
    shown[:, :, face.shape[2] // 2 :] = 0
    return warped[0], _translate(renderer.translation, torch.cat([shown, driving], dim=1), warped, mels)


def _align(
    module: Any, pictures: Tensor, sketches: Tensor, driving: Tensor, maps_once: bool
) -> tuple[Tensor, Tensor, Tensor]:
    # All references at once: the suite's batch statistics are those of all of them.
    fine = F.relu(module.conv1_bn(module.conv1(torch.cat([pictures, sketches], dim=2).flatten(0, 1))))
    coarse = F.relu(module.conv2_bn(module.conv2(fine)))
    many = pictures.shape[:2]
    half = F.interpolate(driving, scale_factor=0.5, mode="nearest")
    blocks = (
        (module.spade_layer_1, half),
        (module.spade_layer_2, half),
        (module.spade_layer_4, driving),
    )
    maps = [_block_maps(*block) for block in blocks]
    sums: list[Any] = [0.0, 0.0, 0.0]
    total: Any = 0.0
    for n, (picture, h1, h2) in enumerate(
        zip(
            pictures.unbind(1),
            fine.unflatten(0, many).unbind(1),
            coarse.unflatten(0, many).unbind(1),
            strict=True,
        )
    ):
        if n and not maps_once:
            maps = [_block_maps(*block) for block in blocks]
        x = _spade(module.spade_layer_2, _spade(module.spade_layer_1, h2, maps[0]), maps[1])
        x = _spade(module.spade_layer_4, F.pixel_shuffle(x, 2), maps[2])
        weight, flow = sequence(module.conv_5, x), module.conv_4(x)
        small = F.interpolate(weight, scale_factor=0.5, mode="nearest")
        for i, (source, by) in enumerate(((picture, weight), (h1, weight), (h2, small))):
            sums[i] = sums[i] + _warp(source, flow) * by
        total = total + weight
    total = total + 1e-5
    return sums[0] / total, sums[1] / total, sums[2] / F.interpolate(total, scale_factor=0.5, mode="nearest")


def _translate(module: Any, target: Tensor, warped: tuple[Tensor, Tensor, Tensor], mels: Tensor) -> Tensor:
    vector = sequence(module.audio_encoder, mels[:, None]).flatten(1)
    x = F.relu(module.conv1_bn(module.conv1(target)))
    x = F.relu(module.conv2_bn(module.conv2(x)))
    x = _adain(module.adain_1, _spade(module.spade_1, x, _block_maps(module.spade_1, warped[2])), vector)
    x = F.pixel_shuffle(x, 2)
    x = _adain(module.adain_2, _spade(module.spade_2, x, _block_maps(module.spade_2, warped[1])), vector)
    x = _spade(module.spade_4, x, _block_maps(module.spade_4, warped[0]))
    return torch.sigmoid(module.conv_last(F.leaky_relu(x, 0.01)))


def _block_maps(block: Any, picture: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [spade_maps(layer, picture) for layer in (block.spade_layer_1, block.spade_layer_2)]


def spade_maps(layer: Any, picture: Tensor) -> tuple[Tensor, Tensor]:
    """γ and β of a modulating picture: one convolution, then one for each."""
    hidden = layer.conv1(picture)
    return layer.gamma(hidden), layer.beta(hidden)


def _spade(block: Any, x: Tensor, maps: list[tuple[Tensor, Tensor]]) -> Tensor:
    return block.conv_2(_modulated(block.conv_1(_modulated(x, *maps[0])), *maps[1]))


def _adain(block: Any, x: Tensor, vector: Tensor) -> Tensor:
    for layer, conv in ((block.adain_layer_1, block.conv_1), (block.adain_layer_2, block.conv_2)):
        hidden = layer.mlp_shared(vector)
        gamma, beta = layer.mlp_gamma(hidden), layer.mlp_beta(hidden)
        x = conv(_modulated(x, gamma[..., None, None], beta[..., None, None]))
    return x


def _modulated(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    x = F.instance_norm(x)
    return F.leaky_relu(x + x * gamma + beta, 0.2)


def _warp(source: Tensor, flow: Tensor) -> Tensor:
    """Sampled bilinearly at each pixel's place plus its motion, corners at -1 and 1."""
    height, width = flow.shape[2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    moved = torch.cat([2 * flow[:, :1] / (width - 1), 2 * flow[:, 1:] / (height - 1)], dim=1)
    grid = torch.stack([x, y]) + moved
    if source.shape[2:] != flow.shape[2:]:
        grid = F.interpolate(grid, size=source.shape[2:], mode="bilinear", align_corners=False)
    return F.grid_sample(source, grid.permute(0, 2, 3, 1), align_corners=False)


# Wav2Lip ------------------------------------------------------------------------------------------------------------


def paint(generator: Generator, mels: Tensor, faces: Tensor) -> Tensor:
    """Wav2Lip's generator, without ``residual``: (N, 80, 16) and (N, 6, 96, 96) → (N, 3, 96, 96)."""
    maps, x = [], faces
    for block in generator.face_encoder_blocks:
        x = sequence([block], x)
        maps.append(x)
    x = sequence(generator.audio_encoder, mels.unsqueeze(1))
    for block in generator.face_decoder_blocks:
        first, *rest = block
        x = torch.cat([sequence(rest, conv_block(first, x)), maps.pop()], dim=1)
    return sequence(generator.output_block, x)


def quality(discriminator: QualityDiscriminator, frames: Tensor) -> Tensor:
    """The probability that (N, 3, 96, 96) BGR frames are real, (N, 1)."""
    x = frames[:, :, frames.shape[2] // 2 :]
    for block in discriminator.face_encoder_blocks:
        for layer in block:
            x = layer.act(layer.conv_block[0](x))
    return torch.sigmoid(discriminator.binary_pred[0](x).view(len(x), -1))


# LipFormer ----------------------------------------------------------------------------------------------------------


def encode(encoder: FaceEncoder, pictures: Tensor) -> Tensor:
    """Features of (B, 3, h, w) pictures in [0, 1]."""
    return F.normalize(sequence(encoder.layers, F.pixel_unshuffle(pictures * 2 - 1, encoder.patch)), dim=1)


def decode(decoder: FaceDecoder, upper: Tensor, lower: Tensor) -> Tensor:
    """Faces of the encodings of both halves."""
    x = sequence(decoder.layers, torch.cat([upper, lower], dim=2))
    return (F.pixel_shuffle(x, decoder.patch) + 1) / 2


def nearest(codebook: Codebook, features: Tensor) -> Tensor:
    """(B, d, h, w) → (B, h, w) int64, by Euclidean distance."""
    flat = features.permute(0, 2, 3, 1).flatten(0, 2)
    codes = codebook.codes
    distances = flat.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * flat @ codes.T
    return distances.argmin(1).view(features.shape[0], *features.shape[2:])


def look_up(codebook: Codebook, codes: Tensor) -> Tensor:
    """(B, h, w) → (B, d, h, w)."""
    return F.embedding(codes, codebook.codes).permute(0, 3, 1, 2)


def lip_logits(transformer: LipTransformer, warped: Tensor, codes: Tensor, audio: Tensor) -> Tensor:
    """(B, n, h', w') logits; without ``residual`` and ``neighbours``, with queries of the reference."""
    unit = codes.detach().square().mean().sqrt()
    codes = codes / unit
    queries = warped.flatten(2).transpose(1, 2) / unit + transformer.position
    state = queries
    for layer in transformer.layers:
        state = _transformer_layer(layer, state, queries, codes, audio)
    logits = transformer.head(state)
    return logits.transpose(1, 2).unflatten(2, warped.shape[-2:])


def _transformer_layer(layer: Any, state: Tensor, queries: Tensor, codes: Tensor, audio: Tensor) -> Tensor:
    attention, heads = layer.attention, layer.attention.heads
    query = attention.query(queries).unflatten(2, (heads, -1)).transpose(1, 2)
    key, value = (
        made.unflatten(1, (heads, -1)).transpose(0, 1).expand(len(query), -1, -1, -1)
        for made in (attention.key(codes), attention.value(codes))
    )
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    state = attention.output(mixed) + state
    scale, shift = layer.norm.modulation(audio).unsqueeze(1).chunk(2, dim=2)
    state = F.layer_norm(state, state.shape[2:]) * scale + shift
    enter, act, leave = layer.feedforward
    return state + leave(act(enter(state)))


def style_logits(discriminator: StyleGAN2Discriminator, pictures: Tensor) -> Tensor:
    """StyleGAN2's discriminator: (B, 3, S, S) in [0, 1] → (B,)."""
    x = _equalised(discriminator.first, pictures * 2 - 1)
    for block in discriminator.blocks:
        found: Any = block
        x = (
            _equalised(found.second, _equalised(found.first, x)) + _equalised(found.shortcut, x)
        ) / math.sqrt(2)
    group = next(n for n in range(min(4, len(x)), 0, -1) if len(x) % n == 0)
    deviation = (x.view(group, -1, *x.shape[1:]).var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    deviation = deviation.repeat(group).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
    x = _equalised(discriminator.last, torch.cat([x, deviation], dim=1)).flatten(1)
    hidden, score = discriminator.hidden, discriminator.score
    x = F.leaky_relu(F.linear(x, _scaled(hidden.weight), hidden.bias), 0.2) * math.sqrt(2)
    return F.linear(x, _scaled(score.weight), score.bias).squeeze(1)


def _scaled(weight: Tensor) -> Tensor:
    """The equalised learning rate: by the root of the number of inputs of an output."""
    return weight / math.sqrt(weight[0].numel())


def _equalised(layer: Any, x: Tensor) -> Tensor:
    """A convolution whose weights are scaled at use; filtered and halved where the layer is."""
    weight = _scaled(layer.weight)
    if layer.halve:
        binomial = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        kernel = torch.outer(binomial, binomial).expand(x.shape[1], 1, 4, 4)
        small = layer.kernel == 1
        x = F.conv2d(x, kernel, stride=2 if small else 1, padding=layer.kernel // 2 + 1, groups=x.shape[1])
        x = F.conv2d(x, weight, layer.bias, stride=1 if small else 2)
    else:
        x = F.conv2d(x, weight, layer.bias, padding=layer.kernel // 2)
    return x if layer.bias is None else F.leaky_relu(x, 0.2) * math.sqrt(2)
