"""Charts as SVG, readable on light and dark ground."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

OURS, PEERS, INK, RULE = "#0a84ff", "#8e8e93", "#6e6e73", "#8e8e9355"
FONT = 'font-family="system-ui, sans-serif" font-size="13"'


class Bar(NamedTuple):
    """One line of a bar chart; ``group`` is its heading."""

    group: str
    label: str
    value: float
    ours: bool


class Line(NamedTuple):
    """One line of a line chart."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from 0, by group."""
    width, label_width, row_height = 860, 300, 24
    scale = (width - label_width - 90) / max(row.value for row in rows)
    out, y, group = [_text(0, 18, title, weight=600)], 30, None
    for row in rows:
        if row.group != group:
            group = row.group
            y += 30
            out.append(_text(0, y - 8, group, weight=600))
        length = max(1.0, row.value * scale)
        colour = OURS if row.ours else PEERS
        out.append(_text(label_width - 8, y + 15, row.label, anchor="end"))
        out.append(f'<rect x="{label_width}" y="{y + 3}" width="{length:.1f}" height="16" rx="3" fill="{colour}"/>')
        out.append(_text(label_width + length + 6, y + 15, f"{row.value:.0f} {unit}"))
        y += row_height
    return _svg(width, y + 10, out)


def lines(title: str, x_name: str, y_name: str, rows: Sequence[Line]) -> str:
    """Lines over a linear x axis, with their names at their ends."""
    width, height, left, bottom = 860, 380, 60, 330
    x_ticks = _ticks(max(x for row in rows for x, _ in row.points))
    y_ticks = _ticks(max(y for row in rows for _, y in row.points))
    plot_width, plot_height = width - left - 130, bottom - 50

    def place(x: float, y: float) -> tuple[float, float]:
        return left + plot_width * x / x_ticks[-1], bottom - plot_height * y / y_ticks[-1]

    out = [_text(0, 18, title, weight=600), _text(left + plot_width / 2, bottom + 40, x_name, anchor="middle")]
    out.append(_text(left, 40, y_name))
    for tick in y_ticks:
        _, y = place(0, tick)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + plot_width}" y2="{y:.1f}" stroke="{RULE}"/>')
        out.append(_text(left - 8, y + 4, f"{tick:g}", anchor="end"))
    out += [_text(place(tick, 0)[0], bottom + 20, f"{tick:g}", anchor="middle") for tick in x_ticks]
    for row in rows:
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in row.points)
        end_x, end_y = place(*row.points[-1])
        out.append(f'<polyline points="{path}" fill="none" stroke="{row.colour}" stroke-width="2.5"/>')
        out.append(_text(end_x + 8, end_y + 4, row.label, colour=row.colour))
    return _svg(width, height, out)


def stacked(*charts: str) -> str:
    """One chart below the other, all of the same size."""
    width, height = (int(re.findall(rf' {side}="(\d+)"', charts[0])[0]) for side in ("width", "height"))
    places = [f'<g transform="translate(0 {height * n})">\n{chart}</g>' for n, chart in enumerate(charts)]
    return _svg(width, height * len(charts), places)


def _ticks(most: float) -> list[float]:
    """About four round steps, from 0 to ``most`` or a little above."""
    most = most or 1.0
    power = 10.0 ** math.floor(math.log10(most / 4))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= most / 4)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: int = 400, colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}" {FONT}>'
        f"{escape(text)}</text>"
    )


def _svg(width: int, height: int, elements: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, *elements, "</svg>"]) + "\n"
