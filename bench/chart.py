"""Phases of processes as an SVG: one horizontal bar per system, one panel per comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log10
from typing import Any

WIDTH, LEFT, RIGHT = 960, 190, 70  # pixels: of the whole, for the names, for the totals
BAR, GAP, AXIS, TITLE = 18, 8, 24, 30  # pixels: heights
TICKS = 8  # at most, on the axis
Kinds = Sequence[tuple[tuple[str, ...], str, str]]  # beginnings of phases' names, colour, name in the legend
KINDS: Kinds = (
    (("start python",), "#8c8c8c", "start Python"),
    (("import",), "#4c78a8", "import modules"),
    (("check", "read", "stream"), "#e45756", "read weights"),
    (("load",), "#f58518", "load model"),
    (("decode audio",), "#b279a2", "decode audio"),
    (("transcribe",), "#54a24b", "find words"),
    (("",), "#c9b458", "other"),
)
STYLE = """
text { font-family: system-ui, sans-serif; font-size: 13px; fill: #222 }
.title { font-weight: 600 } .tick { font-size: 11px; fill: #666 } .grid { stroke: #ddd }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .tick { fill: #aaa } .grid { stroke: #444 }
}
"""

Phase = dict[str, Any]  # name, start_s, end_s


@dataclass(frozen=True)
class Panel:
    """A comparison: each system's name and phases."""

    title: str
    bars: Sequence[tuple[str, Sequence[Phase]]]

    @property
    def seconds(self) -> float:
        """When the last bar ends."""
        return max(float(phase["end_s"]) for _, phases in self.bars for phase in phases)


def draw(panels: Sequence[Panel], kinds: Kinds = KINDS) -> str:
    """The text of the SVG; each panel has an axis of its own."""
    parts, y = legend(kinds), TITLE + GAP
    for panel in panels:
        parts.append(f'<text class="title" x="0" y="{y + 18}">{escape(panel.title)}</text>')
        y += TITLE
        scale = (WIDTH - LEFT - RIGHT) / panel.seconds  # pixels per second
        bottom = y + len(panel.bars) * (BAR + GAP)
        for at in ticks(panel.seconds):
            x = LEFT + at * scale
            parts.append(f'<path class="grid" d="M{x:.1f} {y - 2}V{bottom}"/>')
            parts.append(
                f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{bottom + 13}">{at:g} s</text>'
            )
        for name, phases in panel.bars:
            end = max(float(phase["end_s"]) for phase in phases)
            parts.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 14}">{escape(name)}</text>')
            parts += bar(phases, y, scale, kinds)
            parts.append(f'<text x="{LEFT + end * scale + 6:.1f}" y="{y + 14}">{end:.2f} s</text>')
            y += BAR + GAP
        y += AXIS
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def bar(phases: Sequence[Phase], y: int, scale: float, kinds: Kinds) -> list[str]:
    """One system's bar. Phases that overlap in time are drawn below each other, in thinner lanes."""
    lanes: list[list[Phase]] = []
    for phase in sorted(phases, key=lambda phase: (phase["start_s"], -phase["end_s"])):
        free = (lane for lane in lanes if lane[-1]["end_s"] <= phase["start_s"] + 0.001)  # times are rounded
        lane = next(free, None)
        if lane is None:
            lanes.append([phase])
        else:
            lane.append(phase)
    height = BAR / len(lanes)
    parts = []
    for i, lane in enumerate(lanes):
        for phase in lane:
            start, length = float(phase["start_s"]), float(phase["end_s"]) - float(phase["start_s"])
            parts.append(
                f'<rect x="{LEFT + start * scale:.1f}" y="{y + i * height:.1f}" width="{length * scale:.1f}" '
                f'height="{height:.1f}" fill="{colour(phase["name"], kinds)}">'
                f"<title>{escape(phase['name'])}: {length:.3f} s</title></rect>"
            )
    return parts


def colour(name: str, kinds: Kinds) -> str:
    """The colour of a phase."""
    return next(colour for prefixes, colour, _ in kinds if name.startswith(prefixes))


def legend(kinds: Kinds) -> list[str]:
    """One line that explains the colours."""
    parts, step = [], WIDTH // len(kinds)
    for i, (_, fill, name) in enumerate(kinds):
        parts.append(f'<rect x="{i * step}" y="4" width="14" height="14" fill="{fill}"/>')
        parts.append(f'<text x="{i * step + 20}" y="16">{name}</text>')
    return parts


def ticks(seconds: float) -> list[float]:
    """Round numbers from 0 to `seconds`."""
    power = 10.0 ** ceil(log10(seconds / TICKS))
    step = next(step for step in (power / 5, power / 2, power) if seconds / step <= TICKS)
    return [i * step for i in range(int(seconds / step) + 1)]
