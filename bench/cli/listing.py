"""Everything that can be chosen by name, one line each."""

from __future__ import annotations

from collections.abc import Callable


def _sources() -> dict[str, str]:
    from prep.sources import SOURCES, get_source

    return {name: get_source(name).summary for name in SOURCES}


def _views() -> dict[str, str]:
    from prep.views import VIEWS

    return {name: view.summary for name, view in VIEWS.items()}


def _landmarks() -> dict[str, str]:
    from prep.landmark_sets import LANDMARK_SETS

    return {name: f"{len(indices)} points of the 478-point mesh" for name, indices in LANDMARK_SETS.items()}


def _detectors() -> dict[str, str]:
    from prep.detectors import DETECTORS

    return DETECTORS


def _sound_features() -> dict[str, str]:
    from prep.sound.features import FEATURES

    return {
        name: f"{feature.summary}; {feature.rate:g} columns a second" for name, feature in FEATURES.items()
    }


def _metrics() -> dict[str, str]:
    from bench.common.errors import BenchError
    from bench.metrics import ALIASES, METRICS, get_spec

    short = {name: alias for alias, name in ALIASES.items()}
    lines = {}
    for name in METRICS:
        try:
            spec = get_spec(name)
        except BenchError as error:  # an error of another package must not hide the other entries
            lines[name] = str(error)
            continue
        arrows = {"higher": "↑", "lower": "↓", "none": ""}
        figures = ", ".join(f"{output.label}{arrows[output.better]}" for output in spec.outputs)
        also = f" (also: {short[name]})" if name in short else ""
        lines[name] = f"{figures}: {spec.summary}{also}"
    return lines


def _regions() -> dict[str, str]:
    from bench.metrics.regions import REGIONS

    return REGIONS


def _methods() -> dict[str, str]:
    import inspect

    from bench.common.errors import BenchError
    from bench.common.methods import METHODS, get_method

    lines = {}
    for name in METHODS:
        try:
            method = get_method(name)
        except BenchError as error:  # an error of another package must not hide the other entries
            lines[name] = str(error)
            continue
        summary = (inspect.getdoc(method) or "").partition("\n")[0].rstrip(".")
        pictures = "; animates pictures, too" if getattr(method, "animates_pictures", False) else ""
        lines[name] = f"{method.title}: {summary}{pictures}"
    return lines


def _tables() -> dict[str, str]:
    from bench.report.tables import table_titles

    return table_titles()


def _weights() -> dict[str, str]:
    from bench.weights.store import registry

    return {name: f"{entry.file}: {', '.join(entry.enables)}" for name, entry in registry().items()}


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "sources": _sources,
    "views": _views,
    "landmarks": _landmarks,
    "detectors": _detectors,
    "sound-features": _sound_features,
    "methods": _methods,
    "metrics": _metrics,
    "regions": _regions,
    "tables": _tables,
    "weights": _weights,
}


def entries(kind: str) -> dict[str, str]:
    """Name → one line, of a kind in :data:`KINDS`. Raises ``KeyError`` for another kind."""
    return KINDS[kind]()
