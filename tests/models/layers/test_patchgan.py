"""pix2pixHD's discriminator: the official figures and keys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from models.layers.patchgan import PatchGAN
from tests.parity.fill import fill_state, make_input

FIXTURE = Path(__file__).resolve().parents[2] / "parity" / "ip_lap_disc"


def test_official_figures() -> None:
    spec = json.loads((FIXTURE / "spec.json").read_text())
    expected = np.load(FIXTURE / "expected.npz")
    network = PatchGAN().eval()
    assert list(network.state_dict()) == [key for key, *_ in spec["state_dict"]]
    state = fill_state(spec["state_dict"], spec["gain"])
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    image = spec["inputs"]["image"]
    with torch.no_grad():
        maps = network(torch.from_numpy(make_input("image", image["shape"], image["low"], image["high"])))
    assert set(expected.files) == set(spec["outputs"])
    for name in expected.files:
        scale, layer = name.removeprefix("scale").split("_layer")
        assert np.abs(maps[int(scale)][int(layer)].numpy() - expected[name]).max() < 1e-4, name


def test_width_narrows_all_but_the_scores() -> None:
    maps = PatchGAN(width=0.125)(torch.rand(2, 3, 32, 32))
    assert [m.shape[1] for m in maps[0]] == [m.shape[1] for m in maps[1]] == [8, 16, 32, 64, 1]
