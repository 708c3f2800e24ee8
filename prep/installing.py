"""What to install when a package or a library of the system is missing, as one line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DISTRIBUTION = "talking-face-bench"
#: Top-level packages of this suite: an import of one of these that fails is an error in the suite.
_OWN = ("bench", "prep", "models", "baselines", "leaderboards", "tests")
_CHECKOUT = Path(__file__).resolve().parents[1]
_LIBRARY = re.compile(r"(?P<name>lib[\w.+-]*\.so[\w.]*): cannot open shared object file")
#: OpenCV's wheel needs these, directly or through libGL. Its headless wheel needs none of them.
_OPENCV = ("libGL.so.1", "libGLX.so.0", "libGLdispatch.so.0", "libX11.so.6", "libXext.so.6", "libxcb.so.1",
           "libgthread-2.0.so.0", "libglib-2.0.so.0", "libSM.so.6", "libICE.so.6")  # fmt: skip
#: Other libraries: their packages on Debian and Ubuntu.
_DEBIAN = {
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libgomp.so.1": "libgomp1",
    "libquadmath.so.0": "libquadmath0",
    "libsndfile.so.1": "libsndfile1",
    "libstdc++.so.6": "libstdc++6",
    "libtbb.so.12": "libtbb12",
    "libz.so.1": "zlib1g",
}


def install(extra: str = "") -> str:
    """The command that installs this suite with an extra: from its checkout if it lies in one."""
    if not (_CHECKOUT / "constraints.txt").is_file():
        return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"
    what = f'".[{extra}]"' if extra else "."
    return f"{_python()} -m pip install -c constraints.txt -e {what}"


def _python() -> str:
    """This interpreter, as it is called in the checkout if it is the one there."""
    own = (_CHECKOUT / ".venv").resolve() == Path(sys.prefix).resolve()
    return ".venv/bin/python" if own else sys.executable


def explain(error: BaseException) -> str | None:
    """One line with the remedy for an import that failed in this installation; None for any other error.

    Args:
        error: an ImportError, or what a package raised instead when it could not load a library.
    """
    if library := _LIBRARY.search(str(error)):
        return f"the system library {library['name']} is missing: {_provide(library['name'])}"
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] in _OWN:
        return None
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"the package {package} is not installed: {install()}"
    reason = " ".join(str(error).split())
    what = f"{error.name} cannot be imported ({reason})" if error.name else f"an import failed ({reason})"
    return f"{what}: `bench doctor` shows what does not fit; install again with {install()}"


def _provide(library: str) -> str:
    """How to get a library of the system."""
    if library in _OPENCV:
        pip = f"{_python()} -m pip"
        pins = "-c constraints.txt " if (_CHECKOUT / "constraints.txt").is_file() else ""
        return (
            f"apt install libgl1 libglib2.0-0; or, without root, {pip} uninstall -y opencv-contrib-python && "
            f"{pip} install {pins}opencv-contrib-python-headless"
        )
    if library in _DEBIAN:
        return f"apt install {_DEBIAN[library]}"
    return f"install the package of your system that has it (`apt-file search {library}` names it)"
