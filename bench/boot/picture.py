"""An SVG of the bytes that have arrived from a volume, over time, and the phases of the first start below."""

from collections.abc import Sequence
from typing import Any

from bench.chart import LEFT, RIGHT, STYLE, WIDTH, ticks

BLOCK = 1 << 19  # bytes of a block, which arrive together
HEIGHT, TOP, AXIS, BAR, GAP = 260, 34, 28, 18, 8  # pixels
COLOURS = {False: "#e45756", True: "#4c78a8"}
NAMES = {False: "neither", True: "laid out, read ahead"}
PHASES = (
    ("boots", "#8c8c8c", "ssh_s"),
    ("import and load", "#f58518", "ready_s"),
    ("words", "#54a24b", "words_s"),
)


def draw(runs: Sequence[dict[str, Any]]) -> str:
    """The SVG of two runs without a pause: one without layout and read-ahead, one with both."""
    seconds = max(run["words_s"] for run in runs) * 1.02
    most = max(len(run["arrived"]) for run in runs) * BLOCK / 1e6 * 1.05
    across = (WIDTH - LEFT - RIGHT) / seconds
    bottom = TOP + HEIGHT
    parts = []
    for at in ticks(seconds):
        x = LEFT + at * across
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{bottom + 14}">{at:g} s</text>')
    for at in ticks(most):
        y = bottom - at / most * HEIGHT
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{at:g} MB</text>')
    for i, run in enumerate(runs):
        colour = COLOURS[run["read_ahead"]]
        steps = [at for at in run["arrived"] if at <= run["words_s"]]
        points = [f"{LEFT},{bottom}"]
        points += [
            f"{LEFT + at * across:.1f},{bottom - (n + 1) * BLOCK / 1e6 / most * HEIGHT:.1f}"
            for n, at in enumerate(steps)
        ]
        points.append(f"{LEFT + run['words_s'] * across:.1f},{points[-1].partition(',')[2]}")
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>'
        )
        parts.append(f'<rect x="{LEFT + i * 180}" y="6" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + i * 180 + 20}" y="18">{NAMES[run["read_ahead"]]}</text>')
    y = bottom + AXIS
    for run in runs:
        ends = run | {"ready_s": run["command_s"] + run["timings"]["ready_s"]}
        begin = 0.0
        parts.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 14}">{NAMES[run["read_ahead"]]}</text>')
        for name, colour, key in PHASES:
            width = (ends[key] - begin) * across
            parts.append(
                f'<rect x="{LEFT + begin * across:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" '
                f'fill="{colour}"><title>{name}: {ends[key] - begin:.2f} s</title></rect>'
            )
            begin = ends[key]
        parts.append(f'<text x="{LEFT + begin * across + 6:.1f}" y="{y + 14}">{begin:.1f} s</text>')
        y += BAR + GAP
    for i, (name, colour, _) in enumerate(PHASES):
        parts.append(f'<rect x="{LEFT + i * 180}" y="{y + 6}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + i * 180 + 20}" y="{y + 18}">{name}</text>')
    y += BAR + 2 * GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])
