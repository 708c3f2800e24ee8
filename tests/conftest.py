"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Data of a developer's machine; a user's checkout has none."""
    if not _SHARED.is_dir():
        pytest.skip("the shared data are not on this machine")
    return _SHARED


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """Real talking clips of a developer's machine; a user's checkout has none."""
    path = _SHARED / "clips"
    if not path.is_dir():
        pytest.skip("the real clips are not on this machine")
    return path


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small embedded corpus, in LRS2's layout; made once a test run."""
    pytest.importorskip("espeakng_loader", reason="the extra `toy` is not installed")
    from prep.toy.corpus import write_corpus

    out = tmp_path_factory.mktemp("toy")
    write_corpus(out, clips=8, seconds=2.0, size=128, seed=1, workers=2)
    return out
