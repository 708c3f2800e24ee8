"""``bench dub``: makes the face in one video speak another sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from prep.landmarks import FaceChoice


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("dub")(dub)


def dub(
    method: str = typer.Argument(..., help="Name of the method; see `bench ls methods`."),
    run: Path = typer.Option(..., help="Folder of its training run, or of imported weights."),
    video: Path | None = typer.Option(
        None, help="Video with the face; any size and frame rate. Most methods also take a picture."
    ),
    image: Path | None = typer.Option(
        None, help="Instead of --video: a picture of the face, which speaks for as long as the sound lasts."
    ),
    audio: Path = typer.Option(..., help="The speech: a sound file, or a video with sound."),
    out: Path = typer.Option(..., "--out", "-o", help="The MP4 to write, with the video's frame rate."),
    audio_track: int | None = typer.Option(
        None, min=0, help="Which sound track of --audio, from 0; default: the one marked default."
    ),
    face: int | None = typer.Option(
        None, min=1, help="Which of several people, from left to right, from 1; default: the largest face."
    ),
    face_at: str | None = typer.Option(None, metavar="X,Y", help="Or the face at this pixel."),
    longer_audio: str = typer.Option(
        "bounce", help="Sound longer than the video: bounce (back and forth), loop or cut the sound."
    ),
    shorter_audio: str = typer.Option(
        "cut", help="Sound shorter than the video: cut the video, or pad with silence."
    ),
    sheet: bool = typer.Option(
        True,
        "--sheet/--no-sheet",
        help="Draw twelve frames, original above generated, as OUT.sheet.jpg beside the video.",
    ),
    pose: str = typer.Option(
        "footage", help="Source of the head pose: footage, still, or another video's path."
    ),
    speaker: str | None = typer.Option(None, help="With a run set: the person whose run is used."),
    detector: str = typer.Option("facemesh", help="What finds the face; see `bench ls detectors`."),
    tracking: bool = typer.Option(False, "--tracking", help="Track the face; faster, for a single face."),
    crf: int = typer.Option(18, min=0, max=51, help="x264's constant rate factor; smaller is better."),
    overrides: list[str] = typer.Option(
        [],
        "--set",
        help="KEY=VALUE instead of an option of the run, such as generate.margin=25; may be repeated.",
    ),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
) -> None:
    """Make the face in one video speak the sound of another file. Both may have any length. Frames without a face
    stay unchanged."""
    from bench.cli.console import say
    from bench.cli.console_videos import with_options
    from bench.cli.progress import steps_progress
    from bench.generate import dub as run_dub
    from bench.generate.fit import Fit

    source = _source(video, image)
    fit = Fit.named(longer_audio, shorter_audio)
    choice = _choice(face, face_at)
    drawing = out.with_suffix(".sheet.jpg") if sheet else None
    posing: Literal["footage", "still"] | Path = (
        "still" if pose == "still" else "footage" if pose == "footage" else Path(pose)
    )
    try:
        with steps_progress() as notify:
            done = run_dub(
                method,
                run,
                source,
                audio,
                out,
                audio_track=audio_track,
                face=choice,
                pose=posing,
                speaker=speaker,
                fit=fit,
                crf=crf,
                detector=detector,
                tracking=tracking,
                sheet=drawing,
                device=device,
                weights_dir=weights_dir,
                overrides=overrides,
                on_progress=notify,
            )
    except KeyboardInterrupt:
        typer.echo("stopped: nothing was written", err=True)
        raise typer.Exit(130) from None
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)
    rate = f"{'variable, on average ' if done.variable else ''}{done.fps:.5g} fps"
    if done.source_fps and abs(done.source_fps - done.fps) > 0.01 * done.fps:
        rate += f" (the video has {done.source_fps:.5g})"
    channels = {1: "mono", 2: "stereo"}.get(done.channels, f"{done.channels} channels")
    facts = [
        f"{done.frames} frames, {done.seconds_long:.2f} s at {rate}",
        f"{done.width}x{done.height}",
        f"sound {done.sample_rate} Hz {channels}",
        f"face found by {done.detector['name']}",
        f"{done.faceless} of {done.generated} generated frames without a face passed through",
        *([with_options(done.changed)] if done.changed else []),
    ]
    line = f"{out}: {', '.join(facts)}; took {done.seconds:.1f} s"
    say(line)
    if drawing is not None:
        say(f"{drawing}: original above generated")


def _source(video: Path | None, image: Path | None) -> Path:
    """The file with the face.

    Raises:
        BenchError: there are two or none, or ``image`` is no picture.
    """
    from bench.common.errors import BenchError
    from bench.generate.dub_inputs import check_file, is_picture

    if video is not None and image is not None:
        raise BenchError("--video and --image both name the face: give one of them")
    if image is None:
        if video is None:
            raise BenchError("nothing to dub: name a video with --video, or a picture with --image")
        return video
    check_file(image, "--image takes one picture")
    if not is_picture(image):
        raise BenchError(f"{image} is no picture: --image takes one, --video a video")
    return image


def _choice(number: int | None, at: str | None) -> FaceChoice:
    """Which of several people.

    Raises:
        BenchError: the options contradict each other, or the point is not two numbers.
    """
    from math import isfinite

    from bench.common.errors import BenchError
    from prep.landmarks import FaceChoice

    if at is None:
        return FaceChoice(number)
    if number is not None:
        raise BenchError("--face and --face-at both choose the face: give one of them")
    try:
        x, y = map(float, at.split(","))
        if not (isfinite(x) and isfinite(y)):
            raise ValueError
    except ValueError:
        raise BenchError(f"--face-at {at}: write it as x,y in pixels of the video, such as 640,300") from None
    return FaceChoice(at=(x, y))
