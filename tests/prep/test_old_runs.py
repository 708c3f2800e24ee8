"""Training that began before samples were requests goes on."""

from pathlib import Path

import pytest

from prep.dataset import StillDataset, WindowDataset
from prep.errors import PrepError
from prep.order import WindowStream
from prep.sample_spec import SampleSpec, Sound
from tests.prep.fakes import fake_dataset

# Fingerprints as the former specification gave them, for the same two clips.
RENDER = "57f9aa07015d4741518efc8ba99761e0b1ea780aa87c5f838be0b7eda2aac46b"
WAV2LIP = "f10769f0201924aad9656d93c820d257245c947e5bd4d1003823249bb9dd6844"
STILLS = "4e372e1d2408eea4128fdca38ef4640d4eb936f40f7cafce2a72d9e4712e8e71"


def test_a_former_checkpoint_is_taken_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    fake_dataset(folder, {"train": 2})
    early = Sound("mel", offset=-2)
    render = SampleSpec(
        references=3,
        view="box128",
        view_frames=(2,),
        landmarks="face131",
        normalise="box",
        window_sounds=(early,),
        window_sound_frame=2,
        min_frames=25,
    )
    wav2lip = SampleSpec(
        references=5,
        reference_mode="run",
        view="box128",
        frame_sounds=(Sound("mel", offset=-1),),
        window_sounds=(Sound("mel"),),
    )
    datasets = {
        RENDER: WindowDataset(folder, "train", render, seed=7),
        WAV2LIP: WindowDataset(folder, "train", wav2lip),
        STILLS: StillDataset(folder, "train", "box128", "lips"),
    }
    for old, dataset in datasets.items():
        for other in datasets:
            stream = WindowStream(dataset, 1)
            state = {"fingerprint": other, "consumed": 5}
            if old == other:
                stream.load_state_dict(state)
                assert stream.state_dict()["consumed"] == 5
            else:
                with pytest.raises(PrepError, match="cannot be resumed here"):
                    stream.load_state_dict(state)
