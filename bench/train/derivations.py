"""Which derived columns a method has: its derivations as :class:`prep.derived.DerivedSpec`, with the weights in use."""

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
    """What is derived by a method, by the derivation's name.

    Args:
        method: built.
        digests: what :func:`bench.train.assets.load_assets` gave for ``derive``.
        sound: how the sound is prepared that derivations may use.
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
    """See that the derived columns that stages ask for lie beside every data set.

    Returns:
        Derivation → its key, of those that the stages use.

    Raises:
        BenchError: a stage asks for a column that the method does not derive, or an asset is missing.
        PrepError: columns are missing, not complete, or of another specification; names the ``bench derive``.
    """
    wanted = sorted({name for stage in stages for name in derived_columns(stage)})
    if not wanted:
        return {}
    specs = derived_specs(method, load_assets(method, {"derive"}, store), config.sound)
    for name in wanted:
        derivation, _, column = name.partition(".")
        there = [c.name for c in specs[derivation].columns] if derivation in specs else []
        if column not in there:
            raise BenchError(f"{method.name} derives no column {name}: mend the stage that asks for it")
    used = sorted({name.partition(".")[0] for name in wanted})
    for folder in config.data:
        for derivation in used:
            find(folder, derivation, specs[derivation].key, method.name)
    return {derivation: specs[derivation].key for derivation in used}


def derived_columns(stage: Stage) -> list[str]:
    """Names of the derived columns that a stage's samples hold, ``<derivation>.<column>``."""
    if not isinstance(stage.sample, SampleSpec):
        return []
    heard = [sound.feature for sound in stage.sample.sounds if is_derived(sound.feature)]
    return [*stage.sample.derived, *heard]
