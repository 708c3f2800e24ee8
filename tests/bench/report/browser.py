"""A headless Chromium for tests, driven through its DevTools protocol over a pipe: the standard library is enough."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_TIMEOUT = 60.0
_KEYS = {"Tab": 9, "Enter": 13, " ": 32}


def find() -> str | None:
    """The browser's path: ``$CHROMIUM``, or the first of the usual names; None where there is none."""
    return os.environ.get("CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


class Browser:
    """One process of the browser, with one page; ends with the ``with`` block.

    Attributes:
        errors: what the page wrote to its console as an error or warning, uncaught exceptions, failed requests, and
            requests that would leave the machine.
    """

    def __init__(self, profile: Path) -> None:
        path = find()
        if path is None:
            pytest.skip("no Chromium is installed; set $CHROMIUM to one")
        self.errors: list[str] = []
        self.loaded = 0
        self._next = 0
        self._buffer = b""
        child_reads, self._out = os.pipe()
        self._in, child_writes = os.pipe()
        command = [
            path,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ]

        def hand_over() -> None:
            # Chromium reads commands from descriptor 3 and answers on 4. Copies first: 3 or 4 may be in use.
            reads, writes = os.dup(child_reads), os.dup(child_writes)
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=hand_over,
            start_new_session=True,
        )
        os.close(child_reads)
        os.close(child_writes)
        target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    _session: str | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)
        os.close(self._in)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def open(
        self, page: Path, width: int = 1280, height: int = 900, scheme: str = "light", scripts: bool = True
    ) -> None:
        """Load a page from disk in a window of that size, and wait for it."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        before = self.loaded
        self._call("Page.navigate", url=page.resolve().as_uri())
        self._wait(lambda: self.loaded > before)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {_said(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Type into the focused element."""
        self._call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release Tab, Enter or the space bar."""
        named = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        self._call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **named)

    def choose(self, selector: str, value: str) -> None:
        """Set a form field as a person would, with its event."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        """Write what is seen, or the whole page, as PNG."""
        options: dict[str, Any] = {"format": "png"}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}
            options |= {"captureBeyondViewport": True, "clip": clip}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", **options)["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        """Write the page as it prints."""
        data = self._call("Page.printToPDF", preferCSSPageSize=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    # -- the protocol: JSON messages that end in a zero byte

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._next += 1
        number = self._next
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        found: dict[str, Any] = {}

        def answered() -> bool:
            return bool(found)

        self._wait(answered, number, found)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']['message']}")
        result: dict[str, Any] = found["result"]
        return result

    def _wait(self, done: Any, number: int = 0, answer: dict[str, Any] | None = None) -> None:
        """Take messages until ``done()``; the answer to call ``number`` goes to ``answer``."""
        stop = time.monotonic() + _TIMEOUT
        while not done():
            head, zero, rest = self._buffer.partition(b"\0")
            if zero:
                self._buffer = rest
                self._take(json.loads(head), number, answer)
                continue
            if not select.select([self._in], [], [], max(0.0, stop - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise RuntimeError("the browser ended")
            self._buffer += data

    def _take(self, message: dict[str, Any], number: int, answer: dict[str, Any] | None) -> None:
        if message.get("id") == number and answer is not None:
            answer.update(message)
            return
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded += 1
        elif method == "Runtime.exceptionThrown":
            self.errors.append(_said(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(
                " ".join(str(a.get("value", a.get("description"))) for a in parameters["args"])
            )
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])
        elif method == "Network.loadingFailed" and not parameters.get("canceled"):
            self.errors.append(f"request failed: {parameters['errorText']}")
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("file:", "data:", "about:", "blob:")):
                self.errors.append(f"asks the network for {url}")


def _said(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
