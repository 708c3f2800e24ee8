"""Every stage with a discriminator: losses and gradients are those of the plain form, which judges pictures twice.

The plain forms are written out here from the papers' losses, over the same networks. What a step of the runner finds is
compared with them: in float32 and float64, over micro-batches, with R1, and under bfloat16 autocast.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.synctalkface.method import SyncTalkFace, SyncTalkFaceMethodConfig
from baselines.synctalkface.network import lips_of
from baselines.synctalkface.stage import SyncTalkFaceConfig
from baselines.wav2lip.method import Wav2Lip, Wav2LipMethodConfig
from baselines.wav2lip.stage import Wav2LipConfig
from models.base import Batch, DataInfo, Progress, Stage, TrainConfig
from models.ipl.render_losses import feature_matching_loss
from models.ipl.render_stage import RenderConfig, RenderStage
from models.layers.precision import full
from models.layers.stylegan2 import r1_penalty
from models.lipformer.codebook_stage import CodebookConfig, CodebookStage
from models.lipformer.lip_stage import LipFormerConfig, LipFormerStage
from models.lipformer.lips import Lips
from models.lipformer.pictures import as_float

TRAIN = TrainConfig(batch_size=2)
SIZE = 16
R1, EVERY = 8.0, 4

#: Losses of the generator and of the discriminator.
Losses = tuple[Tensor, Tensor]


@dataclass
class Case:
    """A stage, a batch by number, and the plain form of its losses at a step."""

    stage: Stage
    batch: Callable[[int], Batch]
    plain: Callable[[Batch, int], Losses]

    @property
    def judge(self) -> nn.Module:
        return self.stage.networks["discriminator"]


def random_bytes(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def mels(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, 80, 16, generator=torch.Generator().manual_seed(seed)) * 8 - 4


def wav2lip() -> Case:
    options = Wav2LipConfig(width=0.05, gan_weight=0.1, sync_weight=0.0, train=TRAIN)
    method = Wav2Lip(Wav2LipMethodConfig(wav2lip=options), DataInfo())
    stage: Any = method.stages["wav2lip"]
    judge = stage.networks["discriminator"]

    def batch(seed: int) -> Batch:
        return {
            "images": random_bytes(seed, 2, 5, 3, 96, 96),
            "reference_images": random_bytes(seed + 100, 2, 5, 3, 96, 96),
            "frame_mel": mels(seed, 2, 5),
            "window_mel": mels(seed, 2),
        }

    def logits(frames: Tensor) -> Tensor:
        return judge(frames.flatten(0, 1).flip(1)).float()

    def plain(batch: Batch, step: int) -> Losses:
        truth, painted = stage._paint(batch)
        one, nought = torch.ones(10), torch.zeros(10)
        entropy = F.binary_cross_entropy_with_logits
        like = 0.9 * F.l1_loss(painted, truth)
        return (
            like + 0.1 * entropy(logits(painted), one),
            entropy(logits(truth), one) + entropy(logits(painted.detach()), nought),
        )

    return Case(stage, batch, plain)


def synctalkface() -> Case:
    options = SyncTalkFaceConfig(
        view="face96", width=0.05, slots=6, sync_weight=0.0, dropout=0.0, train=TRAIN
    )
    method = SyncTalkFace(SyncTalkFaceMethodConfig(synctalkface=options), DataInfo())
    stage: Any = method.stages["synctalkface"]
    judge = stage.networks["discriminator"]

    def batch(seed: int) -> Batch:
        return {
            "images": random_bytes(seed, 2, 9, 3, 96, 96),
            "reference_images": random_bytes(seed + 100, 2, 5, 3, 96, 96),
            "frame_mel": mels(seed, 2, 9),
            "window_mel": mels(seed, 2),
        }

    def plain(batch: Batch, step: int) -> Losses:
        truth, made = stage._paint(batch)
        true = truth.flatten(0, 1).flip(1)
        critic = copy.deepcopy(stage.networks["generator"].lip_encoder)
        real = made.features.float()[2::5]
        one, nought = torch.ones(10), torch.zeros(10)
        entropy = F.binary_cross_entropy_with_logits
        of_generator, of_judge = [], [entropy(judge(true).float(), one)]
        for frames in (made.by_sound.float(), made.by_lips.float()):
            seen = critic(lips_of(frames.flip(1).unflatten(0, (2, 5)))).float()
            of_generator.append(10 * F.l1_loss(frames, true) + 0.2 * F.l1_loss(seen, real))
            of_generator.append(0.2 * entropy(judge(frames).float(), one))
            of_judge.append(entropy(judge(frames.detach()).float(), nought))
        heard, seen = made.heard.address.float(), made.seen.address.float().detach()
        of_generator.append(0.2 * F.kl_div(seen, heard, reduction="batchmean", log_target=True))
        of_generator.append(0.2 * F.mse_loss(made.seen.value.float(), made.embedded.float().detach()))
        return torch.stack(of_generator).sum(), torch.stack(of_judge).sum()

    return Case(stage, batch, plain)


def render(lambda_g: float = 0.25, lambda_f: float = 2.5) -> Case:
    config = RenderConfig(width=0.125, perceptual="pixels", lambda_g=lambda_g, lambda_f=lambda_f, train=TRAIN)
    made = config.build_renderer(), config.build_discriminator(), config.build_vgg()
    stage: Any = RenderStage(config, *made)
    judge = stage.networks["discriminator"]

    def batch(seed: int) -> Batch:
        return {
            "target": random_bytes(seed, 2, 3, 64, 64),
            "references": random_bytes(seed + 100, 2, 3, 3, 64, 64),
            "sketches": random_bytes(seed + 200, 2, 5, 64, 64),
            "reference_sketches": random_bytes(seed + 300, 2, 3, 64, 64),
            "mel": mels(seed, 2),
        }

    def squares(maps: list[list[Tensor]], wanted: float) -> Tensor:
        return sum(((scale[-1] - wanted) ** 2).mean() for scale in maps)  # type: ignore[return-value]

    def plain(batch: Batch, step: int) -> Losses:
        truth = batch["target"].flip(1).float() / 255
        sketches, references = batch["sketches"].float() / 255, batch["references"].flip(2).float() / 255
        drawn = batch["reference_sketches"].float() / 255
        # In half precision the sum of the weights of three equal channels is rounded otherwise than their products.
        channels = 1 if torch.is_autocast_enabled("cpu") else 3
        three = [x.unsqueeze(2).expand(-1, -1, channels, -1, -1) for x in (sketches, drawn)]
        rendered = stage.networks["renderer"](truth, three[0], references, three[1], batch["mel"])
        like = stage._weighted(stage._likeness(truth, rendered.warped, rendered.face))
        fake, again, real = judge(rendered.face), judge(rendered.face.detach()), judge(truth)
        matching = feature_matching_loss(fake, [[x.detach() for x in scale] for scale in real])
        return (
            like + lambda_g * squares(fake, 1) + lambda_f * matching,
            (squares(again, 0) + squares(real, 1)) / 2,
        )

    return Case(stage, batch, plain)


def of_style(judge: nn.Module, made: Tensor, truth: Tensor, step: int) -> Losses:
    """StyleGAN2's losses of generated and true faces, the latter's regularised in every fourth step."""
    truth = truth.detach().requires_grad_(step % EVERY == 0)
    on_truth = judge(truth)
    loss = F.softplus(-on_truth).mean() + F.softplus(judge(made.detach())).mean()
    if step % EVERY == 0:
        loss = loss + R1 / 2 * EVERY * r1_penalty(truth, on_truth)
    return F.softplus(-judge(made)).mean(), loss


CODEBOOK: dict[str, Any] = {
    "size": SIZE,
    "channels": (8, 8),
    "blocks": 1,
    "dim": 8,
    "upper_codes": 12,
    "lower_codes": 10,
    "restart_after": 0,
    "perceptual_weight": 0.0,
    "discriminator_width": 1 / 64,
    "r1_weight": R1,
    "r1_every": EVERY,
    "train": TRAIN,
}


def codebook() -> Case:
    config = CodebookConfig(**CODEBOOK)
    networks = (config.build_encoder(), config.build_decoder(), config.build_upper(), config.build_lower())
    stage: Any = CodebookStage(config, *networks, config.build_discriminator(), None)

    def batch(seed: int) -> Batch:
        return {"picture": random_bytes(seed, 2, 3, SIZE, SIZE)}

    def plain(batch: Batch, step: int) -> Losses:
        truth = as_float(batch["picture"])
        made = stage._reconstruct(stage._features(truth))
        like = made.upper.loss + made.lower.loss + F.mse_loss(made.face, truth)
        adversarial, loss = of_style(stage.networks["discriminator"], made.face, truth, step)
        return like + 0.1 * adversarial, loss

    return Case(stage, batch, plain)


def lipformer() -> Case:
    small = {
        "keypoints": 3,
        "warp_hidden": 8,
        "audio_width": 0.0625,
        "layers": 1,
        "heads": 2,
        "feedforward": 16,
    }
    regular = {"r1_weight": R1, "r1_every": EVERY, "perceptual_weight": 0.0, "gumbel": False}
    first, config = CodebookConfig(**CODEBOOK), LipFormerConfig(**small, **regular, train=TRAIN)
    audio = config.build_audio()
    codes = first.build_upper(), first.build_lower()
    lips = Lips(
        first.build_encoder(),
        *codes,
        first.build_decoder(),
        audio,
        config.build_warp(first.dim),
        config.build_transformer(first.dim, first.lower_codes, first.rows, first.columns, audio.dim),
    )
    stage: Any = LipFormerStage(config, lips, SIZE, first.build_discriminator(), None)

    def batch(seed: int) -> Batch:
        pictures = random_bytes(seed, 2, 2, 3, SIZE, SIZE)
        return {"target": pictures[0], "reference": pictures[1], "mel": mels(seed, 2)}

    def plain(batch: Batch, step: int) -> Losses:
        truth, reference = as_float(batch["target"]), as_float(batch["reference"])
        upper = lips.encode_upper(truth)
        logits = lips.predict(lips.move(upper, lips.encode(reference)), batch["mel"])
        made = full(lips.decoder(upper, lips.lower.look_up(logits.argmax(dim=1))))
        like = 0.5 * F.cross_entropy(logits, lips.lip_codes(truth)) + F.mse_loss(made, truth)
        adversarial, loss = of_style(stage.networks["discriminator"], made, truth, step)
        return like + 0.1 * adversarial, loss

    return Case(stage, batch, plain)


CASES = {
    "wav2lip": wav2lip,
    "synctalkface": synctalkface,
    "render": render,
    "codebook": codebook,
    "lipformer": lipformer,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    made: Case = CASES[request.param]()
    for network in made.stage.frozen.values():
        network.eval().requires_grad_(False)
    return made


Gradients = dict[str, tuple[Tensor, Tensor]]


def by_weights(case: Case) -> dict[str, list[nn.Parameter]]:
    found = case.stage.optimizers()
    return {name: [p for group in one.param_groups for p in group["params"]] for name, one in found.items()}


def gradient(loss: Tensor, weights: list[nn.Parameter]) -> Tensor:
    """All elements of the gradient, one after the other."""
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(found, weights, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def of_stage(
    case: Case, batch: Batch, step: int, context: AbstractContextManager[Any] | None = None
) -> Gradients:
    """Optimizer → loss and gradient, in the order in which the runner takes them."""
    weights, found = by_weights(case), {}
    updates = case.stage.updates(batch, Progress(step, 0.0))
    while True:
        with context or nullcontext():
            update = next(updates, None)
        if update is None:
            return found
        found[update.optimizer] = (update.loss.detach(), gradient(update.loss, weights[update.optimizer]))


def of_plain(
    case: Case, batch: Batch, step: int, context: AbstractContextManager[Any] | None = None
) -> Gradients:
    with context or nullcontext():
        losses = case.plain(batch, step)
    pairs = zip(by_weights(case).items(), losses, strict=True)
    return {name: (loss.detach(), gradient(loss, weights)) for (name, weights), loss in pairs}


def apart_by(found: Gradients, expected: Gradients) -> float:
    """The largest relative difference of a loss, or of a gradient by its norm."""
    assert list(found) == list(expected) and "discriminator" in found
    pairs = [(a, b) for name in found for a, b in zip(found[name], expected[name], strict=True)]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


@pytest.mark.parametrize("step", [3, 4])
def test_losses_and_gradients_are_those_of_the_plain_form(case: Case, step: int) -> None:
    batch = case.batch(0)
    assert apart_by(of_stage(case, batch, step), of_plain(case, batch, step)) < 1e-5


@pytest.mark.parametrize("name", ["codebook", "lipformer"])
@pytest.mark.parametrize("step", [3, 4])
def test_in_double_precision(name: str, step: int) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    for network in {**case.stage.networks, **case.stage.frozen}.values():
        network.double()
    batch = {key: values.double() for key, values in case.batch(0).items()}
    assert apart_by(of_stage(case, batch, step), of_plain(case, batch, step)) < 1e-10


@pytest.mark.parametrize(("lambda_g", "lambda_f"), [(0.25, 0.0), (0.0, 2.5)])
def test_one_of_the_renderers_two_losses(lambda_g: float, lambda_f: float) -> None:
    torch.manual_seed(0)
    case = render(lambda_g, lambda_f)
    assert apart_by(of_stage(case, case.batch(0), 1), of_plain(case, case.batch(0), 1)) < 1e-5


def test_in_bfloat16(case: Case) -> None:
    batch = case.batch(0)
    half = torch.autocast("cpu", torch.bfloat16)
    assert apart_by(of_stage(case, batch, 3, half), of_plain(case, batch, 3, half)) < 0.02


def test_generated_and_true_pictures_are_judged_once_each(case: Case) -> None:
    calls: list[Tensor] = []
    with case.judge.register_forward_hook(lambda _, given, __: calls.append(given[0])):
        of_stage(case, case.batch(0), 3)
    assert len(calls) == 2
    assert not torch.equal(*calls)


def test_the_generators_graph_is_freed_before_the_discriminators_step(case: Case) -> None:
    """Of what the networks but the discriminator kept for their backward pass, nothing is left."""
    kept: list[Any] = []

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def keep(tensor: Tensor) -> Kept:
        one = Kept(tensor)
        kept.append(weakref.ref(one))
        return one

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor)
    with pytest.MonkeyPatch.context() as patch:
        for network in case.stage.networks.values():
            if network is not case.judge:
                patch.setattr(network, "forward", _within(hooks, network.forward))
        updates = case.stage.updates(case.batch(0), Progress(3, 0.0))
        update = next(updates)
        assert any(one() is not None for one in kept)
        gradient(update.loss, by_weights(case)[update.optimizer])
        assert not [one for one in kept if one() is not None]
        assert next(updates).optimizer == "discriminator"


def _within(context: AbstractContextManager[Any], call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        with context:
            return call(*args)

    return called


def micro_batches(case: Case) -> Iterator[tuple[str, Tensor]]:
    """The mean gradients of two micro-batches by the runner's stepper, per optimizer."""
    from bench.train.stepping import Stepper

    found: dict[str, Tensor] = {}

    class Noting(torch.optim.SGD):
        name = ""

        def step(self, closure: Any = None) -> None:
            weights = by_weights(case)[self.name]
            found[self.name] = torch.cat([p.grad.flatten() for p in weights if p.grad is not None])

    optimizers = {}
    for name, weights in by_weights(case).items():
        optimizers[name] = Noting(weights, 1.0)
        optimizers[name].name = name
    stepper = Stepper(optimizers)
    for part in range(2):
        updates = case.stage.updates(case.batch(part), Progress(3, 0.0))
        list(stepper.steps(updates, parts=2, last=part == 1))
    yield from found.items()


def test_micro_batches(case: Case) -> None:
    plain = [of_plain(case, case.batch(part), 3) for part in range(2)]
    weights = by_weights(case)
    for name, found in micro_batches(case):
        expected = (plain[0][name][1] + plain[1][name][1]) / 2
        assert len(found) == sum(p.numel() for p in weights[name])
        assert float((found - expected).norm() / expected.norm()) < 1e-5
