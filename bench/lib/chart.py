"""Charts as SVG, drawn by matplotlib, readable on light and dark ground. In: figures. Out: a drawing, and its figures as JSON.

``python -m bench.lib.chart`` redraws those of ``docs/charts`` from the figures beside them.
"""

import io
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

CHARTS = Path(__file__).parents[2] / "docs/charts"

OURS, PEERS, INK, RULE = "#0a84ff", "#8e8e93", "#6e6e73", "#8e8e9355"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "transcriber",  # the same figures are the same bytes
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
}
WIDTH_IN, PANEL_IN, BAR_IN, HEADING_IN = 9.0, 4.0, 0.26, 0.5


class Bar(NamedTuple):
    """One line of a bar chart; ``group`` is its heading."""

    group: str
    label: str
    value: float
    ours: bool


class Line(NamedTuple):
    """One line of a line chart: its name, its points, its colour."""

    label: str
    points: Sequence[Sequence[float]]
    colour: str


class Panel(NamedTuple):
    """Lines over a linear x axis, with their names at their ends."""

    title: str
    x_name: str
    y_name: str
    rows: Sequence[Line]


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from 0, by group."""
    groups = [(group, list(of_it)) for group, of_it in groupby(rows, key=lambda row: row.group)]
    with mpl.rc_context(STYLE):
        heights = [HEADING_IN + BAR_IN * len(of_it) for _, of_it in groups]
        figure = Figure((WIDTH_IN, sum(heights)), layout="constrained")
        figure.suptitle(title, weight="bold", x=0.0, ha="left")
        parts = figure.subplots(len(groups), sharex=True, squeeze=False, height_ratios=heights)
        for axes, (group, of_it) in zip(parts[:, 0], groups, strict=True):
            drawn = axes.barh(
                [row.label for row in of_it],
                [row.value for row in of_it],
                color=[OURS if row.ours else PEERS for row in of_it],
            )
            axes.bar_label(drawn, fmt=f"%.0f {unit}", padding=4)
            axes.set_title(group, loc="left", weight="bold")
            axes.invert_yaxis()
            axes.xaxis.set_visible(False)
            axes.margins(x=0.1)
            _bare(axes)
        return _svg(figure)


def lines(*panels: Panel) -> str:
    """One panel below the other, all of the same size."""
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH_IN, PANEL_IN * len(panels)), layout="constrained")
        for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            for row in panel.rows:
                xs, ys = zip(*row.points, strict=True)
                axes.plot(xs, ys, color=row.colour, linewidth=2, gid=f"{panel.title}: {row.label}")
                axes.annotate(
                    row.label,
                    row.points[-1],
                    (8, -3),
                    textcoords="offset points",
                    color=row.colour,
                    annotation_clip=False,
                )
            axes.set_title(panel.title, loc="left", weight="bold")
            axes.set_xlabel(panel.x_name)
            axes.set_ylabel(panel.y_name, rotation=0, ha="right")
            _ticks(axes, panel)
            axes.grid(axis="y", color=RULE)
            _bare(axes)
        return _svg(figure)


def save_bars(path: Path, title: str, unit: str, rows: Sequence[Bar]) -> None:
    """The drawing at ``path``, and its figures beside it."""
    path.write_text(bars(title, unit, rows))
    _save_figures(path, {"title": title, "unit": unit, "bars": [row._asdict() for row in rows]})


def save_lines(path: Path, *panels: Panel) -> None:
    """The drawing at ``path``, and its figures beside it."""
    path.write_text(lines(*panels))
    kept = [panel._asdict() | {"rows": [row._asdict() for row in panel.rows]} for panel in panels]
    _save_figures(path, {"panels": kept})


def drawn_from(figures: dict[str, Any]) -> str:
    """The drawing of figures that were saved."""
    if "bars" in figures:
        return bars(figures["title"], figures["unit"], [Bar(**row) for row in figures["bars"]])
    panels = [Panel(**panel | {"rows": [Line(**row) for row in panel["rows"]]}) for panel in figures["panels"]]
    return lines(*panels)


def _save_figures(path: Path, figures: dict[str, Any]) -> None:
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


def _ticks(axes: Axes, panel: Panel) -> None:
    """About four round steps on each axis, from 0 to its largest value or a little above."""
    for axis, limit, place in ((axes.xaxis, axes.set_xlim, 0), (axes.yaxis, axes.set_ylim, 1)):
        most = max(point[place] for row in panel.rows for point in row.points) or 1.0
        ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(0, most)
        axis.set_ticks(ticks)
        limit(0, ticks[-1])


def _bare(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


if __name__ == "__main__":
    for saved in sorted(CHARTS.glob("*.json")):
        saved.with_suffix(".svg").write_text(drawn_from(json.loads(saved.read_text())))
