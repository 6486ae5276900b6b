"""An hour of speech, from a fresh process to the written transcript; the page cache is warm."""

from collections.abc import Iterator

from bench.gpu import ours
from bench.gpu.place import Place, Row
from bench.speed import recording


def run(place: Place) -> Iterator[Row]:
    """Transcribe the 8 s sample, repeated to an hour, with each model."""
    path, _ = recording(place.pick(60, 0.5), place.scratch)
    for shape in ours.shapes(place):
        facts, document = ours.transcribe(place, shape, path)
        segments = document["segments"]
        tokens = sum(len(segment["tokens"]) for segment in segments)
        windows = len({segment["seek"] for segment in segments})
        phases = {phase["name"]: phase["end_s"] - phase["start_s"] for phase in facts["phases"]}
        row = {
            "table": "an hour" if place.gpu else "half a minute",
            "model": shape,
            "audio, s": facts["audio_s"],
        }
        row |= {"windows": windows, "tokens": tokens, "ready, s": facts["ready_s"]}
        row |= {name + ", s": phases[name] for name in ("decode audio", "find speech", "transcribe")}
        yield row | {"whole, s": facts["total_s"], "times real time": facts["speed"]}
        yield {"finding": f"{shape}: {facts['speed']:,.0f} times real time, done in {facts['total_s']:.1f} s"}
        if tokens < windows * ours.tokens(place) * 0.9 or windows < facts["audio_s"] / 60:
            yield {"problem": f"{shape}: {tokens} tokens in {windows} windows are too few"}
        if not document["complete"]:
            yield {"problem": f"{shape}: the transcript is not complete"}
