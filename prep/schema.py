"""The Parquet schema: the contract between preprocessing and everything else.

One row is one clip, one row group is one row. Per-frame tensors are ``list<binary>``: each element holds one frame as
little-endian, C-ordered bytes; dtype and shape are in the field's metadata. The layout was chosen by measurements (100
frames, memory-mapped, one core): reading the landmarks of a random clip takes 63 µs as ``list<binary>``, 500 µs as a
flat ``list<float>`` and 950 µs as nested lists, since Parquet decodes a repetition level for every number; with zstd it
takes 640 µs. A random training window needs exactly one row group of one clip; groups of 16 clips take 14 times as
long. ``tests/benchmarks/test_layout.py`` repeats the measurement. Columns are PLAIN and not compressed, so that
:mod:`prep.pages` can read single frames.

========================  ==================================  ====================================================
column                    type                                meaning
========================  ==================================  ====================================================
``clip_id``               string                              unique in the data set
``dataset``, ``split``    string                              source name; train, val, test or pretrain
``speaker``, ``text``     string                              ``""`` if the corpus does not give it
``source``                string                              media file, relative to the manifest's ``root``
``start``, ``stop``       float64                             seconds from the video's first frame
``fps``                   float64                             25.0 always; stills have 0.0
``n_frames``              int32                               T
``width``, ``height``     int32                               of the frame, pixels, after ``crop`` and resize
``crop``                  list<int32> or null                 x, y, width, height cut from the source, pixels
``source_fps``            float64                             mean rate of the source video
``audio_start``           float64                             first sound after the first frame, seconds (+ = late)
``av_difference``         float64                             sound minus picture before reconciling, seconds
``video_track``           int32                               which of the file's video streams, from 0; -1: none
``audio_track``           int32                               which of the file's sound streams, from 0; -1: none
``audio_mix``             string                              ``mono``, ``mean`` of the channels, or ``channel 2``
                                                              (from 1) where channels cancel; ``""``: no sound
``deinterlaced``          bool                                the source was interlaced
``light``                 string                              ``sdr``; ``hlg`` or ``pq``, converted to sdr
``matrix``                string                              YUV matrix by which the source was decoded
``matrix_tagged``         bool                                the source names its matrix
``sample_aspect``         float64                             width by height of the source's pixels
``small_faces``           int32                               frames whose face the full-range detector found
``detected``              list<bool>, T                       a face was found in the frame
``n_faces``               list<uint8>, T                      how many
``landmarks``             list<binary>, T                     478×3 float32, full-frame pixels; null: not detected
``landmarks68``           list<binary>, T, or null            68×2 float32, full-frame pixels, where there are any
``<view>_transform``      list<list<float32>[6]>, T           2×3 matrix, full-frame → view pixels; NaN: not detected
``<view>``                list<struct<bytes, path>>, T        encoded image; null: not detected
``audio``                 binary or null                      16 kHz mono PCM, int16; 640 samples a frame
``mel``                   list<binary> or null                80 float32 a column, 80 columns a second
========================  ==================================  ====================================================

Pixel coordinates are continuous: pixel (i, j) covers [j, j + 1) × [i, i + 1).

The version is in the metadata of every shard and among the options of the manifest. All versions can be read:

1.  Columns up to ``av_difference``, and those after ``small_faces``. Sound was mixed at constant power: stereo is up to
    3 dB louder than the same voice in mono, and scaled by the loudest sample of its file where that exceeds full scale.
    The first sound and video streams of a file were read. A frame has the colours of FFmpeg's default conversion.
2.  Sound is the mean of the channels, see :func:`prep.sound_reading.sound`. The columns from ``video_track`` to
    ``small_faces`` say how the source was read; read from a set of version 1, they have the defaults of :class:`Clip`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA_VERSION = 2
N_LANDMARKS = 478
N_MELS = 80

#: dtype and shape of one element of each tensor column.
TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "landmarks": ("<f4", (N_LANDMARKS, 3)),
    "landmarks68": ("<f4", (68, 2)),
    "mel": ("<f4", (N_MELS,)),
}

#: One encoded image, in the form that ``datasets`` recognises as an image; ``path`` is always null.
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

_SCALARS = [
    ("clip_id", pa.string()),
    ("dataset", pa.string()),
    ("split", pa.string()),
    ("speaker", pa.string()),
    ("text", pa.string()),
    ("source", pa.string()),
    ("start", pa.float64()),
    ("stop", pa.float64()),
    ("fps", pa.float64()),
    ("n_frames", pa.int32()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("crop", pa.list_(pa.int32())),
    ("source_fps", pa.float64()),
    ("audio_start", pa.float64()),
    ("av_difference", pa.float64()),
    ("video_track", pa.int32()),
    ("audio_track", pa.int32()),
    ("audio_mix", pa.string()),
    ("deinterlaced", pa.bool_()),
    ("light", pa.string()),
    ("matrix", pa.string()),
    ("matrix_tagged", pa.bool_()),
    ("sample_aspect", pa.float64()),
    ("small_faces", pa.int32()),
]

#: Columns that sets of version 1 lack; read from such a set, they have the defaults of :class:`Clip`.
SINCE_VERSION_2 = tuple(name for name, _ in _SCALARS[-9:])


@dataclass
class Clip:
    """One row, in memory. Arrays are numpy; T is the number of frames, C the number of mel columns.

    Attributes:
        landmarks: (T, 478, 3) float32, full-frame pixels, NaN where no face was detected.
        detected: (T,) bool.
        n_faces: (T,) uint8.
        landmarks68: (T, 68, 2) float32, full-frame pixels, or None.
        transforms: view name → (T, 2, 3) float32.
        images: view name → T encoded images, None where no face was detected.
        audio: (640 T,) int16, or None for stills.
        mel: (C, 80) float32 in [-4, 4], or None for stills.
    """

    clip_id: str
    dataset: str
    split: str
    source: str
    n_frames: int
    width: int
    height: int
    landmarks: np.ndarray
    detected: np.ndarray
    n_faces: np.ndarray
    speaker: str = ""
    text: str = ""
    start: float = 0.0
    stop: float = 0.0
    fps: float = 25.0
    crop: tuple[int, int, int, int] | None = None
    source_fps: float = 0.0
    audio_start: float = 0.0
    av_difference: float = 0.0
    video_track: int = -1
    audio_track: int = -1
    audio_mix: str = ""
    deinterlaced: bool = False
    light: str = "sdr"
    matrix: str = ""
    matrix_tagged: bool = False
    sample_aspect: float = 1.0
    small_faces: int = 0
    landmarks68: np.ndarray | None = None
    transforms: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, list[bytes | None]] = field(default_factory=dict)
    audio: np.ndarray | None = None
    mel: np.ndarray | None = None


def make_schema(views: Sequence[str], provenance: dict[str, str] | None = None) -> pa.Schema:
    """Build the Arrow schema of a data set that stores ``views``.

    ``provenance`` (suite version, view parameters …) is stored in the metadata, together with the ``huggingface``
    block that makes ``datasets`` show the crops as images.
    """
    fields = [pa.field(name, kind, nullable=name == "crop") for name, kind in _SCALARS]
    fields += [
        pa.field("detected", pa.list_(pa.bool_()), nullable=False),
        pa.field("n_faces", pa.list_(pa.uint8()), nullable=False),
        _tensor_field("landmarks"),
        _tensor_field("landmarks68"),
    ]
    fields += _view_fields(views)
    fields += [pa.field("audio", pa.binary()), _tensor_field("mel")]
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        **_view_metadata(fields, views),
        **(provenance or {}),
    }
    return pa.schema(fields, metadata=metadata)


def extend_schema(schema: pa.Schema, views: Sequence[str], provenance: dict[str, str]) -> pa.Schema:
    """The schema of a shard with more views after those that it stores; its version and other columns stay.

    Args:
        schema: of the shard.
        views: to add.
        provenance: metadata to replace.
    """
    stored = schema_views(schema)
    fields = list(schema)
    # ``audio`` follows the views.
    place = schema.get_field_index("audio")
    fields[place:place] = _view_fields(views)
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    metadata |= {**_view_metadata(fields, [*stored, *views]), **provenance}
    extended = pa.schema(fields, metadata=metadata)
    # A list's child is called ``item`` in a new schema and ``element`` in one that was read from a file: the types are
    # equal, their bytes in the footer are not.
    suite = {key: metadata[key] for key in ("suite_version",) if key in metadata}
    whole = make_schema([*stored, *views], {**suite, **provenance})
    return whole if whole.equals(extended) and whole.metadata == extended.metadata else extended


def _view_fields(views: Sequence[str]) -> list[pa.Field]:
    fields = []
    for view in views:
        fields.append(pa.field(f"{view}_transform", pa.list_(pa.list_(pa.float32(), 6)), nullable=False))
        fields.append(pa.field(view, pa.list_(IMAGE)))
    return fields


def _view_metadata(fields: list[pa.Field], views: Sequence[str]) -> dict[str, str]:
    features = _hf_features(fields, set(views))
    return {"views": json.dumps(list(views)), "huggingface": json.dumps({"info": {"features": features}})}


def schema_views(schema: pa.Schema) -> list[str]:
    """Names of the views that a schema stores, in column order."""
    return list(json.loads((schema.metadata or {})[b"views"]))


def to_table(clip: Clip, schema: pa.Schema) -> pa.Table:
    """One clip as a table of one row with ``schema``.

    Raises:
        KeyError: ``clip`` lacks a view of the schema.
        ValueError: an array has the wrong shape.
    """
    t = clip.n_frames
    if clip.landmarks.shape != (t, N_LANDMARKS, 3) or clip.detected.shape != (t,):
        raise ValueError(
            f"{clip.clip_id}: landmarks {clip.landmarks.shape}, detected {clip.detected.shape}, T {t}"
        )
    row: dict[str, Any] = {name: getattr(clip, name) for name, _ in _SCALARS}
    row["detected"] = clip.detected.tolist()
    row["n_faces"] = clip.n_faces.tolist()
    frames = _pack(clip.landmarks, "landmarks")
    row["landmarks"] = [f if seen else None for f, seen in zip(frames, row["detected"], strict=True)]
    row["landmarks68"] = None if clip.landmarks68 is None else _pack(clip.landmarks68, "landmarks68")
    row["audio"] = None if clip.audio is None else clip.audio.astype("<i2", copy=False).tobytes()
    row["mel"] = None if clip.mel is None else _pack(clip.mel, "mel")
    for view in schema_views(schema):
        if len(clip.images[view]) != t:
            raise ValueError(f"{clip.clip_id}: {len(clip.images[view])} images of {view}, T {t}")
        row[view] = [None if image is None else (image, None) for image in clip.images[view]]
        row[f"{view}_transform"] = clip.transforms[view].astype(np.float32).reshape(t, 6).tolist()
    return pa.Table.from_arrays([make_array([row[f.name]], f.type) for f in schema], schema=schema)


def make_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Same as ``pa.array(values, kind)``, but without its import of pandas, which costs 0.4 s in every worker."""
    n = len(values)
    valid = None
    if any(value is None for value in values):
        valid = pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
    if pa.types.is_struct(kind):
        columns = zip(*((None,) * kind.num_fields if v is None else v for v in values), strict=True)
        children = [make_array(column, kind.field(i).type) for i, column in enumerate(columns)]
        return pa.Array.from_buffers(kind, n, [valid], children=children)
    if pa.types.is_fixed_size_list(kind):
        items = [item for value in values for item in value]
        return pa.Array.from_buffers(kind, n, [valid], children=[make_array(items, kind.value_type)])
    if pa.types.is_boolean(kind):
        return pa.Array.from_buffers(kind, n, [valid, pa.py_buffer(np.packbits(values, bitorder="little"))])
    if pa.types.is_primitive(kind):
        numbers = np.array(values, kind.to_pandas_dtype())
        return pa.Array.from_buffers(kind, n, [valid, pa.py_buffer(numbers)])
    if pa.types.is_string(kind):
        values = [None if value is None else value.encode() for value in values]
    offsets = np.zeros(n + 1, np.int32)
    np.cumsum([0 if value is None else len(value) for value in values], out=offsets[1:])
    if pa.types.is_list(kind):
        items = [item for value in values if value is not None for item in value]
        child = make_array(items, kind.value_type)
        return pa.Array.from_buffers(kind, n, [valid, pa.py_buffer(offsets)], children=[child])
    data = b"".join(value for value in values if value is not None)
    return pa.Array.from_buffers(kind, n, [valid, pa.py_buffer(offsets), pa.py_buffer(data)])


def from_table(table: pa.Table, row: int = 0) -> Clip:
    """The inverse of :func:`to_table`; columns missing in the table have their defaults."""
    names = table.column_names
    values = {name: table.column(name)[row].as_py() for name, _ in _SCALARS if name in names}
    if values.get("crop") is not None:
        values["crop"] = tuple(values["crop"])
    t = values["n_frames"]
    clip = Clip(
        landmarks=np.full((t, N_LANDMARKS, 3), np.nan, np.float32),
        detected=np.zeros(t, bool),
        n_faces=np.zeros(t, np.uint8),
        **values,
    )
    for name in ("detected", "n_faces"):
        if name in names:
            setattr(clip, name, np.array(table.column(name)[row].as_py(), dtype=getattr(clip, name).dtype))
    for name in TENSORS:
        if name in names and table.column(name)[row].is_valid:
            setattr(clip, name, unpack(table.column(name).chunk(0)[row].values, name))
    if "audio" in names and table.column("audio")[row].is_valid:
        clip.audio = np.frombuffer(table.column("audio")[row].as_buffer(), "<i2")
    for view in schema_views(table.schema):
        if view in names:
            images = table.column(view).chunk(0)[row].values
            clip.images[view] = (
                images.field("bytes") if pa.types.is_struct(images.type) else images
            ).to_pylist()
        if f"{view}_transform" in names:
            flat = table.column(f"{view}_transform")[row].as_py()
            clip.transforms[view] = np.array(flat, np.float32).reshape(t, 2, 3)
    return clip


def unpack(values: pa.BinaryArray, name: str, frames: np.ndarray | None = None) -> np.ndarray:
    """Elements of a tensor column as one array, without a Python object per element.

    Args:
        values: the elements of one clip's list.
        name: the column's name, a key of :data:`TENSORS`.
        frames: indices of the requested elements, (n,) int; None: all.

    Returns:
        (n, *shape) of the column's dtype; null elements are NaN.
    """
    dtype, shape = TENSORS[name]
    size = int(np.prod(shape))
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    data = values.buffers()[2]
    flat = np.frombuffer(data, dtype) if data is not None else np.empty(0, dtype)
    if values.null_count == 0:
        first = offsets[0] // flat.itemsize
        whole = flat[first : first + len(values) * size].reshape(len(values), *shape)
        return whole if frames is None else whole[frames]
    wanted = np.arange(len(values)) if frames is None else frames
    out = np.full((len(wanted), size), np.nan, dtype)
    lengths = offsets[1:] - offsets[:-1]
    for i, frame in enumerate(wanted):
        if lengths[frame]:
            first = offsets[frame] // flat.itemsize
            out[i] = flat[first : first + size]
    return out.reshape(len(wanted), *shape)


def _pack(array: np.ndarray, name: str) -> list[bytes]:
    dtype, shape = TENSORS[name]
    if array.shape[1:] != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected (n, {', '.join(map(str, shape))})")
    array = np.ascontiguousarray(array, dtype)
    return [frame.tobytes() for frame in array]


def _tensor_field(name: str) -> pa.Field:
    dtype, shape = TENSORS[name]
    return pa.field(name, pa.list_(pa.binary()), metadata={"dtype": dtype, "shape": json.dumps(shape)})


def _hf_features(fields: list[pa.Field], views: set[str]) -> dict[str, Any]:
    def feature(kind: pa.DataType, image: bool = False) -> dict[str, Any]:
        if pa.types.is_fixed_size_list(kind):
            return {"_type": "Sequence", "length": kind.list_size, "feature": feature(kind.value_type)}
        if pa.types.is_list(kind):
            return {"_type": "Sequence", "feature": feature(kind.value_type, image)}
        if image:
            return {"_type": "Image"}
        names = {"double": "float64", "float": "float32"}
        return {"_type": "Value", "dtype": names.get(str(kind), str(kind))}

    return {f.name: feature(f.type, f.name in views) for f in fields}
