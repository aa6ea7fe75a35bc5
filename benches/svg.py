"""Line plots as SVG: logarithmic axes, one colour a line, the line's name at its end."""

from __future__ import annotations

import itertools
import math
from html import escape

from measuring import Plot

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
MOST_TICKS = 8
COLOURS = ("#1f6f8b", "#c8553d", "#5b8c5a", "#8a5a9e", "#b8862b", "#555555")


def draw(plot: Plot) -> str:
    """The plot as a document that stands alone."""
    xs = sorted({x for series in plot.series for x in series.x})
    ys = [y for series in plot.series for y in series.y]
    x_low, x_high = math.log(xs[0]), math.log(xs[-1])
    y_low, y_high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    y_high = max(y_high, y_low + 1)

    def across(x: float) -> float:
        share = (math.log(x) - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(y) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{middle:.0f}" y="20" text-anchor="middle" font-size="14">{escape(plot.title)}</text>',
        f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(plot.x_label)}</text>',
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(plot.y_label)}</text>",
    ]
    for power in range(y_low, y_high + 1):
        y = down(10.0**power)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(10.0**power)}</text>')
    for x in _ticks(xs):
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_number(x)}</text>')
    ends = _apart([down(series.y[-1]) for series in plot.series])
    for place, (series, end) in enumerate(zip(plot.series, ends, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        points = [(across(x), down(y)) for x, y in zip(series.x, series.y, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{end + 4:.1f}" fill="{colour}">{escape(series.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(xs: list[float]) -> list[float]:
    """Which values of an axis are named: all that occur, or round ones where those are many."""
    if len(xs) <= MOST_TICKS:
        return xs
    powers = range(math.floor(math.log10(xs[0])), math.ceil(math.log10(xs[-1])) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if xs[0] <= step * 10.0**power <= xs[-1]]
        if len(found) <= MOST_TICKS:
            break
    return found


def _apart(places: list[float], distance: float = 14) -> list[float]:
    """Names one below the other where lines end close together."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, now in itertools.pairwise(order):
        moved[now] = max(moved[now], moved[before] + distance)
    return moved


def _number(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
