"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """Real talking clips of a developer's machine; a user's checkout has none."""
    path = _SHARED / "clips"
    if not path.is_dir():
        pytest.skip("the real clips are not on this machine")
    return path
