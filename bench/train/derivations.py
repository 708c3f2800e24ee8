"""The derived columns of a method: its derivations as :class:`prep.derived.DerivedSpec`, with the weights in
use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.common.errors import BenchError
from bench.train.assets import asset_label, load_assets
from bench.train.config import RunConfig
from bench.train.run_options import SoundConfig
from bench.weights.store import WeightStore
from models.base import Stage, Trainable
from prep.derived import DerivedSpec
from prep.derived_reading import find
from prep.sample_spec import SampleSpec, is_derived


def derived_specs(
    method: Trainable, digests: Mapping[str, str], sound: SoundConfig
) -> dict[str, DerivedSpec]:
    """Name of the derivation → specification, for all derivations of a method.

    Args:
        method: a built method.
        digests: what :func:`bench.train.assets.load_assets` returned for ``derive``.
        sound: how the sound for the derivations is prepared.
    """
    return {
        name: DerivedSpec(
            derivation.name,
            derivation.columns,
            {**derivation.parameters, "sound": sound.model_dump(mode="json")},
            {asset: digests[asset_label(method.assets[asset])] for asset in derivation.assets},
        )
        for name, derivation in method.derivations.items()
    }


def check_derived(
    method: Trainable, stages: Sequence[Stage], config: RunConfig, store: WeightStore
) -> dict[str, str]:
    """Check that the derived columns that stages need exist for every data set.

    Returns:
        Derivation → its key, for the derivations that the stages use.

    Raises:
        BenchError: a stage needs a column that the method does not derive, or an asset is missing.
        PrepError: columns are missing, not complete, or of another specification; names the ``bench derive`` to run.
    """
    wanted = sorted({name for stage in stages for name in derived_columns(stage)})
    if not wanted:
        return {}
    specs = derived_specs(method, load_assets(method, {"derive"}, store), config.sound)
    for name in wanted:
        derivation, _, column = name.partition(".")
        there = [c.name for c in specs[derivation].columns] if derivation in specs else []
        if column not in there:
            raise BenchError(f"{method.name} derives no column {name}: correct the stage that needs it")
    used = sorted({name.partition(".")[0] for name in wanted})
    for folder in config.data:
        for derivation in used:
            find(folder, derivation, specs[derivation].key, method.name)
    return {derivation: specs[derivation].key for derivation in used}


def derived_columns(stage: Stage) -> list[str]:
    """Names of the derived columns in a stage's samples, ``<derivation>.<column>``."""
    if not isinstance(stage.sample, SampleSpec):
        return []
    heard = [sound.feature for sound in stage.sample.sounds if is_derived(sound.feature)]
    return [*stage.sample.derived, *heard]
