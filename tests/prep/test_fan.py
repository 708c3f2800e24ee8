"""FAN: its package, its weights, its points."""

from __future__ import annotations

import hashlib
import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from prep.errors import PrepError
from prep.fan import Fan68, fan_weights
from prep.landmarks import detect_clip


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    pytest.importorskip("torch").hub.get_dir()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def face_alignment(monkeypatch):
    """The package's outline in its present layout: addresses, and a class that tells how it was made."""

    class FaceAlignment:
        def __init__(self, kind: str, device: str, flip_input: bool, compile: bool = True) -> None:
            self.made = (kind, device, flip_input, compile)

    package = types.ModuleType("face_alignment")
    package.LandmarksType = types.SimpleNamespace(TWO_D="2d")
    package.FaceAlignment = FaceAlignment
    api, sfd = types.ModuleType("face_alignment.api"), types.ModuleType("sfd_detector")
    digest = hashlib.sha256(b"weights").hexdigest()[:10]
    api.models_urls = {"2DFAN-4": f"https://example.org/a/2DFAN4-{digest}.pth.tar"}
    sfd.models_urls = {"s3fd": f"https://example.org/s3fd-{digest}.pth"}
    for name, module in (
        ("face_alignment", package),
        ("face_alignment.api", api),
        ("face_alignment.detection.sfd.sfd_detector", sfd),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return types.SimpleNamespace(api=api, digest=digest)


def test_fan_without_its_package(monkeypatch, no_network):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    monkeypatch.setitem(sys.modules, "face_alignment.api", None)
    with pytest.raises(PrepError, match=r"face-alignment: .*pip install .*\[fan\]"):
        Fan68()


def test_fan_without_weights_downloads_nothing(face_alignment, hub, no_network):
    with pytest.raises(PrepError) as missing:
        Fan68()
    message = str(missing.value)
    assert "\n" not in message
    path = hub / f"s3fd-{face_alignment.digest}.pth"
    assert f"FAN needs {path}" in message and f"https://example.org/{path.name}" in message
    assert not hub.exists()


def test_fan_refuses_damaged_weights(face_alignment, hub, no_network):
    hub.mkdir(parents=True)
    (hub / f"s3fd-{face_alignment.digest}.pth").write_bytes(b"weights")
    fan = hub / f"2DFAN4-{face_alignment.digest}.pth.tar"
    fan.write_bytes(b"weight")
    with pytest.raises(PrepError, match=r"2DFAN4.* is damaged"):
        Fan68()
    fan.write_bytes(b"weights")
    assert Fan68()._network.made == ("2d", "cpu", True, False)


def test_fan_knows_the_older_layout(face_alignment, hub):
    # Release 1.4 lists its addresses by PyTorch version, and those of today's under another name.
    face_alignment.api.default_model_urls = {"2DFAN-4": "https://example.org/2DFAN4-cd938726ad.zip"}
    face_alignment.api.models_urls = {"1.6": {}}
    assert [path.name for path, _ in fan_weights()][1] == "2DFAN4-cd938726ad.zip"


@pytest.mark.slow
def test_fan_weights_of_the_installed_package(hub, no_network):
    pytest.importorskip("face_alignment", reason="the extra `fan` is not installed")
    files = fan_weights()
    assert [path.parent for path, _ in files] == [hub, hub]
    assert files[0][0].name.startswith("s3fd-") and files[1][0].name.startswith("2DFAN4-")
    with pytest.raises(PrepError, match="s3fd-"):
        Fan68()


def test_fan_points_are_centres_of_pixels():
    class Network:
        def get_landmarks_from_image(self, image: np.ndarray) -> list[np.ndarray] | None:
            if not image.any():
                return None
            return [np.arange(136, dtype=np.float32).reshape(68, 2), np.zeros((68, 2), np.float32)]

    with Fan68(network=Network()) as fan:
        faces = fan.detect(np.ones((8, 8, 3), np.uint8))
        assert faces.shape == (2, 68, 2) and faces.dtype == np.float64
        np.testing.assert_array_equal(faces[0, 1], [2.5, 3.5])
        assert fan.detect(np.zeros((8, 8, 3), np.uint8)).shape == (0, 68, 2)
        clip = detect_clip(fan, [np.ones((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])
    assert clip.confirmed and clip.detected.tolist() == [True, False] and clip.n_faces.tolist() == [2, 0]
