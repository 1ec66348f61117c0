"""`onnxprune analyze`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import click

from onnxprune import api
from onnxprune.analysis import Analysis
from onnxprune.cli import options
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.cli.work import refuse_unknown_sizes
from onnxprune.latency.disk import model_files
from onnxprune.report import analysis_document, check_outputs, document, write_text
from onnxprune.report.analysis_file import least_cost
from onnxprune.report.analysis_tables import (
    branches_table,
    frozen_axes_table,
    groups_table,
    members_table,
    products_table,
)
from onnxprune.report.cells import Table, short
from onnxprune.report.data import frozen_reasons
from onnxprune.report.tables import frozen_table

ROWS = 40


@click.command(cls=Verb)
@options.model
@options.output("Write everything to this JSON file (docs/files.md describes it).", required=False)
@options.option("--all", "everything", is_flag=True, section="What comes out", help="Show all rows, and the members.")
@options.fold
@options.sizes
@options.printing
def analyze(
    model: Path, output: Path | None, everything: bool, fold: bool, sizes: Mapping[str, int], out: Output
) -> None:
    """Show what can be removed, and why the rest cannot.

    A group is a set of channels ("units") that must go together wherever they lie: filters of one or more layers,
    their normalization, and the inputs of all layers that read them. For every group this prints its units, and which
    share of the network's parameters and multiply-accumulates (MACs) could go with it; then which residual branches
    could be dropped whole, which axes are products of groups (heads x head width), and for every axis that is frozen
    who froze it.

    \b
    Examples:
      onnxprune analyze model.onnx
      onnxprune analyze model.onnx --all -o analysis.json
      onnxprune analyze model.onnx --json | jq '.groups[].name'
    """
    with out.steps() as step:
        step("reading")
        loaded = api.load(model)
        refuse_unknown_sizes(loaded, sizes)
        check_outputs([output], model_files(model))
        step("analyzing")
        analysis = api.analyze(loaded, sizes=sizes, fold=fold)
        content = analysis_document(analysis)
    if output:
        write_text(output, document(content))
    out.result(content, *_shown(analysis, everything))


def _shown(analysis: Analysis, everything: bool) -> Iterator[Table | str]:
    cost, least = analysis.cost, least_cost(analysis).share_of(analysis.cost)
    name = analysis.model.path.name if analysis.model.path else "model"
    yield f"{name}: {short(cost.params)} parameters, {short(cost.macs)} MACs, {len(analysis.groups)} groups"
    if not analysis.groups:
        yield f"{'No channels' if analysis.branches else 'Nothing'} can be removed; the frozen axes say why."
    else:
        shares = f"{least['params']:.2%} of the parameters and {least['macs']:.2%} of the MACs"
        yield f"With one unit left in every group, {shares} are left."
    tables = all_tables(analysis) if everything else map(first_rows, main_tables(analysis))
    yield from (table for table in tables if table.rows)


def main_tables(analysis: Analysis) -> list[Table]:
    """What most people want to know."""
    tables = [groups_table(analysis), branches_table(analysis), products_table(analysis)]
    return [*tables, frozen_table(frozen_reasons(analysis))]


def all_tables(analysis: Analysis) -> list[Table]:
    """Everything, one row for every axis."""
    return [*main_tables(analysis), members_table(analysis), frozen_axes_table(analysis)]


def first_rows(table: Table) -> Table:
    """The table, cut to what fits on a screen or two."""
    hidden = len(table.rows) - ROWS
    if hidden <= 0:
        return table
    note = f"... and {hidden} more (--all shows them). {table.note}".strip()
    return replace(table, rows=table.rows[:ROWS], note=note)
