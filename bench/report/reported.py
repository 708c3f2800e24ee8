"""Figures printed in a paper, as blocks of a table."""

from __future__ import annotations

from bench.report.definitions import (
    ABLATION,
    USER_STUDY,
    BlockDef,
    ColumnDef,
    Paper,
    Published,
    TableDef,
    load_papers,
    load_published,
)
from bench.report.model import NOT_AVAILABLE, Block, Cell, Footnotes, Row, TableColumn, rank


def reported_blocks(definition: TableDef, footnotes: Footnotes) -> list[Block]:
    """One block per data set of the paper's table; empty if nothing was published."""
    if not definition.paper:
        return []
    paper = load_papers()[definition.paper]
    blocks = [_block(definition, paper, block) for block in definition.blocks]
    for note in _notes(definition, paper):
        footnotes.note(note)
    return blocks


def _block(definition: TableDef, paper: Paper, block: BlockDef) -> Block:
    figures = load_published(definition.paper, definition.table)
    chosen = definition.columns_of(block)
    columns = [
        TableColumn(
            id=column.metric,
            label=column.label,
            better=column.better or paper.metrics[column.metric],
            decimals=column.decimals or 0,
        )
        for column in chosen
    ]
    rows = []
    for row in definition.rows:
        found = [figures.get((row.method, block.dataset, column.metric)) for column in chosen]
        trivial = row.method == "ground_truth"
        rows.append(
            Row(
                method=row.method,
                label=row.label,
                kind="trivial" if trivial else "method",
                ours=row.ours,
                clips=_clips(found),
                cells=[_cell(figure) for figure in found],
            )
        )
    return Block(
        kind="reported",
        title=f"Reported ({paper.venue} {paper.year}): {block.label}",
        dataset=block.dataset,
        protocol=_protocol(definition, chosen),
        region="",
        columns=columns,
        rows=rows,
        warnings=rank(rows, columns),
    )


def _cell(figure: Published | None) -> Cell:
    if figure is None:
        return Cell(text=NOT_AVAILABLE)
    return Cell(text=figure.text, value=float(figure.text), scored=figure.n, asked=figure.n)


def _clips(figures: list[Published | None]) -> str:
    counts = {figure.n for figure in figures if figure}
    known = "–".join(str(n) for n in sorted(n for n in counts if n is not None))
    return " / ".join(filter(None, [known, "not said" if None in counts else ""])) or "–"


def _protocol(definition: TableDef, columns: list[ColumnDef]) -> str:
    names = dict.fromkeys(column.protocol or definition.protocol or "" for column in columns)
    return " + ".join(names)


def _notes(definition: TableDef, paper: Paper) -> list[str]:
    published = paper.tables[definition.table]
    where = f"{paper.venue} {paper.year}" + (f", arXiv:{paper.arxiv}" if paper.arxiv else "")
    number = definition.table.removeprefix("table")
    notes = [f"Reported figures: {paper.title} ({where}), Table {number}. {published.caption}."]
    if published.notes:
        notes.append(f"On the transcription: {published.notes}.")
    notes += [f"Test set, {key}: {text}." for key, text in _test_sets(definition, paper).items()]
    if paper.evaluation_crop and definition.protocol != USER_STUDY:
        notes.append(f"Region in the paper: {paper.evaluation_crop}.")
    trained = ", ".join(paper.train_datasets) or paper.train_note
    if trained:
        notes.append(f"Training data of the paper's own method: {trained}.")
    if any(
        figure.protocol == ABLATION for figure in load_published(definition.paper, definition.table).values()
    ):
        notes.append("An ablation: the rows are variants of the paper's own method.")
    notes.append("Best and second are marked here from the printed figures, whatever the paper marks.")
    return notes


def _test_sets(definition: TableDef, paper: Paper) -> dict[str, str]:
    wanted: set[str]
    if definition.protocol == USER_STUDY:
        wanted = {USER_STUDY}
    else:
        wanted = {block.dataset for block in definition.blocks}
        wanted |= {dataset.partition("-")[0] for dataset in wanted}
        if any(column.protocol == "dubbing" for column in definition.columns):
            wanted |= {"dubbing", "driving_audio"}
    return {key: text for key, text in paper.test_sets.items() if key in wanted}
