"""Measured results as blocks of a table: comparable results share a block, all others have separate blocks."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from bench.clips.inputs.base import passed_over
from bench.clips.job import SHIFTED, TRIVIAL
from bench.metrics import METRICS, get_spec
from bench.report.definitions import BlockDef, ColumnDef, TableDef, load_papers, variant_of
from bench.report.model import NOT_AVAILABLE, NOT_DEFINED, Block, Cell, Footnotes, Row, TableColumn, rank
from bench.results import CLIP_REGION, Figure, MethodResult, MetricInfo, OutputInfo, Result
from prep.detectors import words

TRIVIAL_LABELS = {
    "ground_truth": "Ground truth",
    "reencoded": "Ground truth, re-encoded",
    "shifted": "Ground truth, shifted",
    "still": "Still first frame",
    "wrong_audio": "Wrong audio",
}


@dataclass
class _Entry:
    """The data of a row: one method's figures, from one result or from several that agree."""

    method: MethodResult
    results: list[Result]
    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)
    number: int = 1

    def figure(self, output: str, region: str) -> Figure | None:
        return self.figures.get((output, region)) or self.figures.get((output, CLIP_REGION))

    def takes(self, method: MethodResult) -> bool:
        """Whether these seem to be the same videos, with the same values for all figures that both have."""
        mine = self.method
        if (mine.method, mine.kind, mine.source) != (method.method, method.kind, method.source):
            return False
        twins = ((f, self.figures.get((f.output, f.region))) for f in method.figures)
        return all(twin is None or _equal(figure, twin) for figure, twin in twins)

    def add(self, method: MethodResult, result: Result) -> None:
        self.results.append(result)
        for figure in method.figures:
            self.figures.setdefault((figure.output, figure.region), figure)


def measured_blocks(
    definition: TableDef, results: Sequence[Result], region: str, footnotes: Footnotes
) -> list[Block]:
    """One block for every group of comparable results, in the order of the table's data sets."""
    if results and not definition.measurable:
        footnotes.note(
            "A user study: none of its columns can be measured here, so the given results are not shown."
        )
        return []
    groups = comparable_groups(results)
    groups.sort(key=lambda group: _position(definition, group[0]))
    for i, group in enumerate(groups):
        _say_why_apart(groups[:i], group, i, footnotes)
    blocks = [_block(definition, group, region, footnotes) for group in groups]
    several = len(groups) > 1
    for i, block in enumerate(blocks):
        if several:
            block.title = f"Measured {i + 1}: {block.title}"
        else:
            block.title = f"Measured: {block.title}"
    return [block for block in blocks if block.columns]


def comparable_groups(results: Sequence[Result]) -> list[list[Result]]:
    """Groups of results that can share a block, in the order of the first result of each group."""
    groups: list[list[Result]] = []
    for result in results:
        for group in groups:
            if not any(other.differences(result) for other in group):
                group.append(result)
                break
        else:
            groups.append([result])
    return groups


def _say_why_apart(before: list[list[Result]], group: list[Result], i: int, footnotes: Footnotes) -> None:
    reasons = []
    for j, other in enumerate(before):
        found = dict.fromkeys(line for a in other for b in group for line in a.differences(b))
        reasons.append((len(found), j, list(found)))
    if reasons:
        _, j, lines = min(reasons)
        footnotes.note(f"Measured {j + 1} and {i + 1} stand apart, since they differ in {'; '.join(lines)}.")


def _position(definition: TableDef, result: Result) -> int:
    block = _block_def(definition, result)
    return definition.blocks.index(block) if block else len(definition.blocks)


def _block_def(definition: TableDef, result: Result) -> BlockDef | None:
    name = result.data.name.lower()
    return next((block for block in definition.blocks if block.dataset.lower() == name), None)


def _block(definition: TableDef, group: list[Result], region: str, footnotes: Footnotes) -> Block:
    first = group[0]
    block = _block_def(definition, first)
    label = block.label if block else first.data.name
    chosen, unasked = _columns(definition, block, group)
    columns = [_column(definition, column, group) for column in chosen]
    entries = sorted(_entries(group), key=lambda entry: _rank_of(definition, entry))
    entries = [
        entry for entry in entries if not _shifted(entry) or any(entry.figure(c.id, region) for c in columns)
    ]
    rows = [_row(definition, entry, columns, region, footnotes) for entry in entries]
    regional = any(cell.asked for row in rows for cell in row.cells) and any(
        entry.figures.get((column.id, region)) for entry in entries for column in columns
    )
    for entry in entries:
        _note_videos(entry.method, first, footnotes)
    if not columns:
        footnotes.note(f"{label}, {first.protocol}: this table has no column for that protocol.")
    if definition.blocks and not block:
        names = ", ".join(b.label for b in definition.blocks)
        footnotes.note(f"{first.data.name} is none of the paper's data sets ({names}).")
    return Block(
        kind="measured",
        title=f"{label}, {first.protocol}" + (f", region {region}" if regional else ""),
        dataset=first.data.name,
        protocol=first.protocol,
        region=region,
        columns=columns,
        rows=rows,
        warnings=rank(rows, columns),
        notes=list(_notes(group, entries, columns, unasked, region)),
    )


def _shifted(entry: _Entry) -> bool:
    """Whether it is the row that shows the floor of the detector, on which only metrics of landmarks are scored."""
    return entry.method.kind == "trivial" and entry.method.method == SHIFTED


def _note_videos(method: MethodResult, result: Result, footnotes: Footnotes) -> None:
    """Notes on the videos of a method: those that were not scored, and how untagged ones were decoded."""
    if method.unmatched:
        words = passed_over(result.data.kind, method.method, method.unmatched, method.videos)
        footnotes.note(f"Not scored: {words}.")
    if method.untagged is not None:
        words = method.untagged.words(method.method)
        footnotes.note(f"{words[0].upper()}{words[1:]}.")


def _columns(
    definition: TableDef, block: BlockDef | None, group: list[Result]
) -> tuple[list[ColumnDef], list[ColumnDef]]:
    """Columns to show, and columns left out because no evaluation requested them.

    A table that is not of a paper also shows requested metrics that it does not list.
    """
    fit = [
        column
        for column in definition.columns_of(block)
        if column.output
        and (column.protocol or definition.protocol or group[0].protocol) == group[0].protocol
    ]
    if definition.paper:
        return fit, []
    asked = {metric.name for result in group for metric in result.metrics}
    asked |= {missing.metric for result in group for missing in result.missing}
    shown = [column for column in fit if variant_of(column.output) in asked]
    unasked = [column for column in fit if column not in shown]
    asked -= {variant_of(column.output) for column in definition.columns if column.output}
    others = {column.output: column for column in asked_for(group, asked.intersection(METRICS))}
    return [*shown, *others.values()], unasked


def asked_for(results: Sequence[Result], metrics: Collection[str] | None = None) -> Iterator[ColumnDef]:
    """Columns of all figures that results contain or that were requested; only of ``metrics``, if given."""
    for name in dict.fromkeys(missing.metric for result in results for missing in result.missing):
        if metrics is None or name in metrics:
            spec = get_spec(name)
            for output in spec.outputs:
                yield ColumnDef(label=output.label, output=spec.id(output), better=output.better)
    for result in results:
        for metric in result.metrics:
            if metrics is None or metric.name in metrics:
                for name, info in _outputs(metric):
                    yield ColumnDef(label=info.label, output=name, better=info.better)


def _column(definition: TableDef, column: ColumnDef, group: list[Result]) -> TableColumn:
    known = (pair for result in group for metric in result.metrics for pair in _outputs(metric))
    info = next((info for name, info in known if name == column.output), None)
    if info:
        return TableColumn(
            id=column.output, label=column.label, better=info.better, unit=info.unit, decimals=info.decimals
        )
    better = column.better or load_papers()[definition.paper].metrics[column.metric]
    return TableColumn(id=column.output, label=column.label, better=better)


def _outputs(metric: MetricInfo) -> Iterator[tuple[str, OutputInfo]]:
    for output in metric.outputs:
        yield (f"{metric.name}.{output.key}" if output.key else metric.name), output


def _entries(group: list[Result]) -> list[_Entry]:
    entries: list[_Entry] = []
    for result in group:
        for method in result.methods:
            entry = next((entry for entry in entries if entry.takes(method)), None)
            if entry is None:
                number = 1 + sum(other.method.method == method.method for other in entries)
                entry = _Entry(method, [], number=number)
                entries.append(entry)
            entry.add(method, result)
    return entries


def _equal(a: Figure, b: Figure) -> bool:
    if a.value is None or b.value is None:
        same = a.value is b.value
    else:
        same = math.isclose(a.value, b.value, rel_tol=1e-9, abs_tol=1e-12)
    return same and (a.scored, a.asked, a.failures) == (b.scored, b.asked, b.failures)


def _rank_of(definition: TableDef, entry: _Entry) -> tuple[int, int]:
    name = entry.method.method
    if entry.method.kind == "trivial":
        return 0, TRIVIAL.index(name) if name in TRIVIAL else len(TRIVIAL)
    names = [row.method for row in definition.rows]
    return (1, names.index(name)) if name in names else (2, 0)


def _label(definition: TableDef, entry: _Entry) -> str:
    name = entry.method.method
    label = TRIVIAL_LABELS.get(name, name) if entry.method.kind == "trivial" else name
    label = next((row.label for row in definition.rows if row.method == name), label)
    return f"{label} ({entry.number})" if entry.number > 1 else label


def _row(
    definition: TableDef, entry: _Entry, columns: list[TableColumn], region: str, footnotes: Footnotes
) -> Row:
    cells = [_cell(entry, column, region, footnotes) for column in columns]
    return Row(
        method=entry.method.method,
        label=_label(definition, entry),
        kind=entry.method.kind,
        clips=_clips(cells),
        cells=cells,
    )


def _cell(entry: _Entry, column: TableColumn, region: str, footnotes: Footnotes) -> Cell:
    figure = entry.figure(column.id, region)
    if figure is None and _shifted(entry):
        return Cell(text=NOT_DEFINED)
    if figure is None:
        return Cell(text=NOT_AVAILABLE, footnotes=[footnotes.mark(_why_none(entry, column.id, region))])
    value = None if figure.value is None or math.isnan(figure.value) else figure.value
    cell = Cell(
        text=NOT_AVAILABLE if value is None else _number(value, column.decimals),
        value=value,
        scored=figure.scored,
        asked=figure.asked,
        failures=figure.failures,
    )
    if value is not None and figure.low is not None and figure.high is not None:
        cell.low, cell.high = figure.low, figure.high
        cell.interval = f"[{_number(figure.low, column.decimals)}, {_number(figure.high, column.decimals)}]"
    if figure.scored < figure.asked or figure.failures:
        why = "; ".join(f"{reason} ({count})" for reason, count in figure.failures.items())
        text = f"{figure.scored} of {figure.asked} clips scored" + (f"; the others: {why}" if why else "")
        cell.footnotes.append(footnotes.mark(text))
    return cell


def _why_none(entry: _Entry, output: str, region: str) -> str:
    name = variant_of(output)
    for result in entry.results:
        for missing in result.missing:
            if missing.metric == name:
                remedy = f"; run: {missing.remedy}" if missing.remedy else ""
                return f"{name}: {missing.reason}{remedy}"
    if not any(metric.name == name for result in entry.results for metric in result.metrics):
        return f"{name}: not among the metrics of this evaluation"
    if not any(region in result.regions for result in entry.results):
        return f"{name}: not evaluated in the region {region}"
    return f"{name}: the evaluation has no figure of it for {entry.method.method}"


def _number(value: float, decimals: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _clips(cells: Sequence[Cell]) -> str:
    counts = {(cell.scored or 0, cell.asked) for cell in cells if cell.asked is not None}
    if not counts:
        return "–"
    scored = sorted({scored for scored, _ in counts})
    asked = max(asked or 0 for _, asked in counts)
    if scored == [asked]:
        return str(asked)
    return f"{'–'.join(map(str, dict.fromkeys((scored[0], scored[-1]))))}/{asked}"


def _notes(
    group: list[Result],
    entries: list[_Entry],
    columns: list[TableColumn],
    unasked: list[ColumnDef],
    region: str,
) -> Iterator[str]:
    data = group[0].data
    split = f", split {data.split}" if data.split else ""
    manifest = f", manifest {data.manifest_sha256[:12]}" if data.manifest_sha256 else ""
    yield f"Data: {data.name}{split}, {data.clips} clips ({data.clips_sha256[:12]}){manifest}."
    yield f"Protocol: {group[0].protocol}, scored with the sound of the {group[0].audio}; region: {region}."
    if group[0].pixels:
        yield f"Colours: pixels {group[0].pixels}, matrix {group[0].matrix}."
    if group[0].detector:
        yield f"Landmarks: {words(group[0].detector)}."
    if group[0].output != "full":
        yield f"Pictures: the view {group[0].output}, cut out of all full frames as it lies in the truth."
    ids = [column.id for column in columns]
    yield from _interval_notes(entries, columns, region)
    shown = [figure.value for e in entries for c in columns if (figure := e.figure(c.id, region))]
    if any(value is not None and math.isinf(value) for value in shown):
        yield "∞: every frame is identical to the truth."
    if any(entry.method.kind == "trivial" for entry in entries):
        yield "Rows made from the truth itself (ground truth, still frame …) are floor and ceiling, and are not ranked."
    if any(map(_shifted, entries)):
        yield (
            f"{TRIVIAL_LABELS[SHIFTED]}: landmarks are detected in frames shifted by one pixel and shifted back; its "
            "pictures are the truth's own and are not scored. This is the floor of the landmark detector."
        )
    specs = dict.fromkeys(
        _spec(metric) for result in group for metric in result.metrics if _used(metric, ids)
    )
    if specs:
        yield f"Specifications: {'; '.join(specs)}."
    if unasked:
        yield f"Not among the metrics of this evaluation: {', '.join(column.output for column in unasked)}."
    for entry in entries:
        if entry.method.kind == "method":
            name = f"{entry.method.method} ({entry.number})" if entry.number > 1 else entry.method.method
            twins = sum(other.method.method == entry.method.method for other in entries) > 1
            source = f"; videos in {entry.method.source}" if entry.method.source and twins else ""
            yield f"{name}: training data {entry.method.training_data or 'not told'}{source}."
        if entry.method.notes:
            yield f"{entry.method.method}: {entry.method.notes}"
    yield from dict.fromkeys(_provenance(result) for result in group)


def _interval_notes(entries: list[_Entry], columns: list[TableColumn], region: str) -> Iterator[str]:
    ways: dict[str, list[str]] = {}
    for column in columns:
        found = (entry.figure(column.id, region) for entry in entries)
        for way in dict.fromkeys(f.interval for f in found if f and f.interval and f.low is not None):
            ways.setdefault(way, []).append(column.label)
    if ways:
        text = "; ".join(f"{', '.join(labels)}: {way}" for way, labels in ways.items())
        yield f"[low, high] are 95 % intervals over clips. {text}."


def _used(metric: MetricInfo, ids: list[str]) -> bool:
    return any(variant_of(name) == metric.name for name in ids)


def _spec(metric: MetricInfo) -> str:
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in metric.weights.items())
    return f"{metric.name} {metric.spec_hash}" + (f" (weights {weights})" if weights else "")


def _provenance(result: Result) -> str:
    p = result.provenance
    commit = f", commit {p.git_commit[:12]}" if p.git_commit else ""
    dirty = " with uncommitted changes" if p.git_dirty else ""
    return f"Suite {p.suite_version}{commit}{dirty}, seed {p.seed}, {p.device}, {p.created}."
