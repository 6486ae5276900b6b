"""An SVG of the simulation: the phases of one recording, and the times of a burst, by the way of waking."""

from collections.abc import Sequence

from bench import chart
from bench.chart import Panel, Phase
from bench.harness import Facts

KINDS: chart.Kinds = (
    (("wake",), "#e45756", "launch asked for"),
    (("launch",), "#8c8c8c", "instance runs"),
    (("boot",), "#b279a2", "boot"),
    (("load",), "#f58518", "model loaded"),
    (("transcribe",), "#54a24b", "transcribed"),
    (("half",), "#4c78a8", "half of them"),
    (("99",), "#9ecae9", "99 % of them"),
)
NAMES = {"event": "woken by event", "alarm": "woken by alarm", "warm": "one always there"}


def draw(one: Sequence[Facts], figures: Sequence[Facts]) -> str:
    """The SVG of one recording and of each burst that was simulated with every way of waking."""
    panels = [Panel("One recording, an empty fleet", [(label(each), phases(each["phases"])) for each in one])]
    bursts = [each for each in figures if each["scenario"]["burst"]]
    for name in dict.fromkeys(each["scenario"]["name"] for each in bursts):
        ways = [each for each in bursts if each["scenario"]["name"] == name]
        if len(ways) == len(one):
            title = f"{name[0].upper()}{name[1:]} recordings"
            panels.append(Panel(title, [(label(each), shares(each)) for each in ways]))
    return chart.draw(panels, KINDS)


def label(figures: Facts) -> str:
    """The name of a bar."""
    return NAMES[figures["scenario"]["wake"]]


def phases(ends: dict[str, float]) -> list[Phase]:
    """Phases one after the other, from when each ends."""
    begins = [0.0, *ends.values()]
    return [
        {"name": name, "start_s": begin, "end_s": end}
        for (name, end), begin in zip(ends.items(), begins, strict=False)
        if end > begin
    ]


def shares(figures: Facts) -> list[Phase]:
    """When half, and when 99 % of the transcripts are there."""
    return phases({"half": figures["p50_s"], "99 %": figures["p99_s"]})
