"""Checkpoints as files: how they appear, which are kept, and what is read back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.common.errors import BenchError
from bench.train import checkpoint as module
from bench.train.checkpoint import (
    Checkpoints,
    best_files,
    ema_name,
    load_into,
    load_network,
    pack_optimizers,
    read_about,
    read_state,
    read_tensors,
    read_training,
    unpack_optimizers,
    write_networks,
)


def weights(value: float) -> dict[str, Tensor]:
    return {"weight": torch.full((2, 3), value), "count": torch.tensor(int(value))}


def save(checkpoints: Checkpoints, step: int, **options: bool) -> Path:
    return checkpoints.save(
        f"step-{step:08d}", {"net": weights(step)}, {"moment": torch.ones(2)}, {"step": step}, **options
    )


def folders(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir() if path.is_dir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class FullDisk:
    """Lets so many files be written, then says that there is no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
        self._left = files
        self._write = module._write
        monkeypatch.setattr(module, "_write", self)

    def __call__(self, path: Path, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._write(path, data)


def test_a_file_says_of_itself_what_it_was_given(tmp_path: Path) -> None:
    about = {"persons": 3, "data": [{"name": "a", "sha": "0"}], "landmarks": "lips", "é": None}
    kept = []
    for name in ("one", "two"):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save("step-00000001", {"net": weights(1)}, {}, {}, about=about, best=True)
        kept.append(checkpoints.folder / "step-00000001" / "net.safetensors")
    assert read_about(kept[0]) == about and kept[0].read_bytes() == kept[1].read_bytes()
    assert read_about(save(Checkpoints(tmp_path / "plain"), 1) / "net.safetensors") == {}
    with pytest.raises(BenchError, match="no such file"):
        read_about(tmp_path / "none.safetensors")
    kept[1].write_bytes(b"no tensors")
    with pytest.raises(BenchError, match="not readable"):
        read_about(kept[1])


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "stage" / "checkpoints")
    assert checkpoints.last() is None and checkpoints.best() is None
    place = save(checkpoints, 3, best=True)
    assert place == tmp_path / "stage" / "checkpoints" / "step-00000003"
    assert checkpoints.last() == place == checkpoints.best()
    assert read_state(place) == {"step": 3}
    assert torch.equal(read_training(place)["moment"], torch.ones(2))
    read = read_tensors(place / "net.safetensors")
    assert read.keys() == {"weight", "count"} and read["count"].dtype == torch.int64
    assert torch.equal(read["weight"], weights(3)["weight"])


def test_a_checkpoint_appears_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    seen: list[list[str]] = []
    written = module._write

    def write(path: Path, data: bytes) -> None:
        written(path, data)
        seen.append([name for name in folders(checkpoints) if not name.startswith(".")])

    monkeypatch.setattr(module, "_write", write)
    save(checkpoints, 1)
    # Network, training tensors and state come before the folder, the pointer after it.
    assert seen == [[], [], [], ["step-00000001"]]


@pytest.mark.parametrize("files", range(5))
def test_a_full_disk_leaves_the_earlier_ones_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    checkpoints = Checkpoints(tmp_path)
    first = save(checkpoints, 1, best=True)
    before = contents(first)
    with monkeypatch.context() as patch:
        FullDisk(patch, files)
        with pytest.raises(BenchError) as caught:
            save(checkpoints, 2, best=True)
    assert str(caught.value).startswith(
        f"{tmp_path / 'step-00000002'}: the checkpoint could not be written (No"
    )
    assert "\n" not in str(caught.value)
    assert contents(first) == before and checkpoints.last() == first
    assert not any(name.startswith(".") for name in folders(checkpoints))
    # With room again, the same step can be saved.
    assert save(checkpoints, 2) == checkpoints.last()


def test_a_checkpoint_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("step-00000001", {"net": weights(1), "other": weights(1)}, {}, {})
    save(checkpoints, 1)
    assert sorted(path.name for path in (tmp_path / "step-00000001").iterdir()) == [
        "net.safetensors",
        "state.json",
        "training.safetensors",
    ]


def test_what_a_crash_left_is_written_over(tmp_path: Path) -> None:
    rest = tmp_path / ".step-00000001.tmp"
    rest.mkdir(parents=True)
    (rest / "old.safetensors").write_bytes(b"torn")
    place = save(Checkpoints(tmp_path), 1)
    assert not rest.exists() and not (place / "old.safetensors").exists()


# Pointers and what is kept ------------------------------------------------------------------------------------


def test_last_and_best_point_apart(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    best, last = save(checkpoints, 1, best=True), save(checkpoints, 2)
    assert (checkpoints.best(), checkpoints.last()) == (best, last)
    failed = checkpoints.save("failed-00000003", {"net": weights(3)}, {}, {}, last=False)
    assert failed.is_dir() and checkpoints.last() == last


def test_without_a_best_one_the_newest_counts(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    place = save(checkpoints, 1)
    assert checkpoints.best() == place
    (tmp_path / "best").write_text("step-00000009\n")  # a folder that somebody removed
    assert checkpoints.best() == place


@pytest.mark.parametrize(("keep", "kept"), [(1, [2, 6]), (2, [2, 5, 6]), (3, [2, 4, 5, 6])])
def test_the_newest_and_the_best_are_kept(tmp_path: Path, keep: int, kept: list[int]) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=keep)
    checkpoints.save("failed-00000001", {"net": weights(1)}, {}, {}, last=False)
    for step in range(1, 7):
        save(checkpoints, step, best=step == 2)
    assert folders(checkpoints) == ["failed-00000001", *(f"step-{step:08d}" for step in kept)]


# Damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"torn", b"\x00" * 64])
def test_damaged_tensors_are_one_line(tmp_path: Path, content: bytes) -> None:
    place = save(Checkpoints(tmp_path), 1)
    for name in ("net.safetensors", "training.safetensors"):
        (place / name).write_bytes(content)
    with pytest.raises(
        BenchError, match=r"net.safetensors: not readable .*; use another checkpoint"
    ) as caught:
        read_tensors(place / "net.safetensors")
    assert "\n" not in str(caught.value)
    with pytest.raises(BenchError, match=r"training.safetensors: not readable"):
        read_training(place)


def test_a_cut_off_file_is_damaged(tmp_path: Path) -> None:
    place = save(Checkpoints(tmp_path), 1)
    path = place / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BenchError, match=r"net.safetensors: not readable"):
        read_tensors(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"net.safetensors: no such file; is this the folder of a run\?"):
        read_tensors(tmp_path / "net.safetensors")
    with pytest.raises(BenchError, match=r"state.json: not readable"):
        read_state(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_damaged_state_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(BenchError, match=r"state.json: not readable .*; resume from another") as caught:
        read_state(tmp_path)
    assert "\n" not in str(caught.value)


# Networks of a run --------------------------------------------------------------------------------------------


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    networks = {"net": weights(1), ema_name("net"): weights(2), "plain": weights(3)}
    Checkpoints(tmp_path / "stage" / "checkpoints").save("step-00000001", networks, {}, {}, best=True)
    files = best_files(tmp_path, "stage")
    assert {name: path.name for name, path in files.items()} == {
        "net": "net.ema.safetensors",
        "plain": "plain.safetensors",
    }
    assert torch.equal(load_network(tmp_path, "net")["weight"], weights(2)["weight"])
    assert best_files(tmp_path, "other") == {}


def test_a_network_that_no_stage_has_is_one_line(tmp_path: Path) -> None:
    write_networks(tmp_path, "stage", {"net": weights(1)}, "a test")
    with pytest.raises(BenchError, match=r"no checkpoint with a network other; train it first"):
        load_network(tmp_path, "other")


def test_weights_are_the_same_bytes_whatever_their_layout(tmp_path: Path) -> None:
    straight = torch.arange(6.0).reshape(2, 3)
    turned = straight.T.contiguous().T
    assert not turned.is_contiguous()
    places = [
        Checkpoints(tmp_path / name).save("step-00000001", {"net": {"w": value}}, {}, {})
        for name, value in (("a", straight), ("b", turned))
    ]
    assert contents(places[0]) == contents(places[1])


def test_a_tensor_of_another_shape_is_not_loaded_in_part() -> None:
    network = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(BenchError, match=r"there: bias has shape \(3,\), the network expects \(2,\)"):
        load_into(network, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, "there")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


# Optimizers ---------------------------------------------------------------------------------------------------


def stepped(
    kind: type[torch.optim.Optimizer], steps: int, **options: object
) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = kind(network.parameters(), **options)  # type: ignore[call-arg]
    for step in range(steps):
        run_step(network, optimizer, step)
    return network, optimizer


def run_step(network: nn.Linear, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    network(torch.full((1, 3), float(step + 1))).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {"lr": 0.1, "betas": (0.5, 0.9)}),
        (torch.optim.AdamW, {"lr": 0.1, "amsgrad": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.SGD, {"lr": 0.1}),
    ],
)
def test_an_optimizer_goes_on_where_it_was(
    tmp_path: Path, kind: type[torch.optim.Optimizer], options: dict[str, object]
) -> None:
    network, optimizer = stepped(kind, 3, **options)
    optimizer.param_groups[0]["lr"] = 0.05
    tensors, rest = pack_optimizers({"one": optimizer})
    place = Checkpoints(tmp_path).save(
        "step-00000003", {"net": network.state_dict()}, tensors, {"rest": rest}
    )

    other, fresh = stepped(kind, 0, **options)
    load_into(other, read_tensors(place / "net.safetensors"), place)
    unpack_optimizers({"one": fresh}, read_training(place), read_state(place)["rest"])
    assert fresh.param_groups[0]["lr"] == 0.05
    for step in (3, 4):
        run_step(network, optimizer, step)
        run_step(other, fresh, step)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
