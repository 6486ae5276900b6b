"""vad.py: where there is speech, and how it is cut into windows."""

import importlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import faster_whisper.vad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from preheat.audio import audiofile, vad
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.audio.vad import (
    DEFAULTS,
    FRAME,
    LATE,
    LONGEST_SILENCE,
    NEG_OFFSET,
    SPEECH_PAD,
    Span,
)
from preheat.options import Options

THRESHOLD, NEG_THRESHOLD = DEFAULTS.vad_threshold, DEFAULTS.vad_threshold - NEG_OFFSET
MIN_SILENCE = DEFAULTS.vad_min_silence_duration_ms * SAMPLE_RATE // 1000
Probabilities = NDArray[np.float32]


@pytest.fixture(scope="module")
def detector() -> vad.Detector:
    return vad.Detector.load()


@pytest.fixture(scope="module")
def long(samples: Path) -> Samples:
    """78 s, and not a whole number of frames."""
    sound = audiofile.decode(samples / "long.flac").samples[:-100]
    assert len(sound) % FRAME
    return sound


@pytest.mark.parametrize("piece", [300, 777, 1000])
def test_probabilities_in_pieces_are_those_of_the_whole(
    piece: int, detector: vad.Detector, long: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit if each piece's warm-up is all that precedes it; else nearly.

    The detector has a long memory: on this recording single frames differ by up to 0.7 with 4 s of warm-up,
    and by up to 0.56 even with 32 s. But speech is found in the same places.
    """
    frames = -(-len(long) // FRAME)
    assert frames < vad.PIECE
    whole = detector.probabilities(long)
    assert whole.shape == (frames,) and whole.dtype == np.float32
    monkeypatch.setattr(vad, "PIECE", piece)
    found = detector.probabilities(long)
    assert found.shape == whole.shape
    assert np.abs(found - whole)[:piece].max() < 1e-5
    assert np.abs(found - whole).mean() < 0.01
    pairs = zip(vad.spoken(found, len(long)), vad.spoken(whole, len(long)), strict=True)
    assert all(np.abs(np.subtract(one, other)).max() <= 2 * FRAME for one, other in pairs)
    monkeypatch.setattr(vad, "WARM_UP", frames)
    assert np.abs(detector.probabilities(long) - whole).max() < 1e-5


def test_probabilities_are_those_of_the_silero_package(detector: vad.Detector, long: Samples) -> None:
    """The package runs block by block and passes its state on."""
    silero: Any = importlib.import_module("silero_vad")  # Any, for it has no types
    theirs = silero.load_silero_vad(onnx=True, sequence=True).audio_forward(long)
    assert np.abs(detector.probabilities(long) - theirs).max() < 1e-4


def test_a_venv_without_the_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="silero-vad is not installed"):
        vad.Detector.load()


def test_speech_is_found(detector: vad.Detector, samples: Path) -> None:
    """In short.flac there are three phrases, one after the other, over most of its 8 s."""
    sound = audiofile.decode(samples / "short.flac").samples
    found = vad.spoken(detector.probabilities(sound), len(sound))
    assert 1 <= len(found) <= 4
    assert 5 < sum(end - start for start, end in found) / SAMPLE_RATE < 8
    loud = np.abs(sound) > 0.2 * np.abs(sound).max()
    assert loud.any()
    for start, end in found:
        loud[start:end] = False
    assert not loud.any()


@pytest.mark.parametrize("seconds", [0.0001, 0.005, 0.032, 1, 70])
def test_none_is_found_in_silence(seconds: float, detector: vad.Detector) -> None:
    sound = np.zeros(max(1, round(seconds * SAMPLE_RATE)), np.float32)
    probabilities = detector.probabilities(sound)
    assert len(probabilities) == -(-len(sound) // FRAME)
    assert vad.spoken(probabilities, len(sound)) == []


def test_none_is_found_in_noise(detector: vad.Detector, samples: Path) -> None:
    sound = audiofile.decode(samples / "noise.flac").samples
    assert vad.spoken(detector.probabilities(sound), len(sound)) == []
    assert vad.windows([]) == []


def test_speech_begins_above_one_probability_and_ends_below_another() -> None:
    between = (THRESHOLD + NEG_THRESHOLD) / 2
    heard = [0.0, between, 0.9, between, between, 0.1, between, 0.9, 0.0, 0.9]
    assert list(vad.runs(np.array(heard, np.float32), THRESHOLD)) == [(2, 5), (7, 8), (9, 10)]
    assert list(vad.runs(np.full(4, between, np.float32), THRESHOLD)) == []
    assert list(vad.runs(np.zeros(0, np.float32), THRESHOLD)) == []
    edge = np.array([THRESHOLD, NEG_THRESHOLD, NEG_THRESHOLD - 0.001], np.float32)
    assert list(vad.runs(edge + np.float32(1e-6), THRESHOLD)) == [(0, 2)]


@pytest.mark.parametrize("threshold", [0.15, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("milliseconds", [160, 500, 2000])
def test_options_mean_what_they_mean_to_faster_whisper(
    threshold: float,
    milliseconds: int,
    detector: vad.Detector,
    long: Samples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For the same probabilities; the threshold for the end of speech and the padding are our own."""
    probabilities = detector.probabilities(long)
    monkeypatch.setattr(faster_whisper.vad, "get_vad_model", lambda: lambda _: probabilities)
    options = faster_whisper.vad.VadOptions(
        threshold=threshold,
        neg_threshold=threshold - NEG_OFFSET,
        min_silence_duration_ms=milliseconds,
        speech_pad_ms=round(1000 * SPEECH_PAD),
    )
    theirs = faster_whisper.vad.get_speech_timestamps(long, options)
    asked = Options(vad_threshold=threshold, vad_min_silence_duration_ms=milliseconds)
    ours = vad.spoken(probabilities, len(long), asked)
    assert ours == [Span(speech["start"], speech["end"]) for speech in theirs]
    assert len(ours) == (7 if milliseconds == 2000 else 13)


def test_a_threshold_has_an_effect(detector: vad.Detector, samples: Path) -> None:
    """There is less speech above 0.99; and even with a threshold near 0 speech ends somewhere."""
    sound = audiofile.decode(samples / "short.flac").samples
    probabilities = detector.probabilities(sound)
    lengths = [
        sum(end - start for start, end in vad.spoken(probabilities, len(sound), Options(vad_threshold=each)))
        for each in (0.02, 0.25, 0.99)
    ]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1] > 0
    assert list(vad.runs(np.array([0.03, 0.005, 0.015, 0.03], np.float32), 0.02)) == [(0, 1), (3, 4)]


def frames(*runs: tuple[int, int], length: int) -> Probabilities:
    """1 in these frames, 0 elsewhere."""
    found = np.zeros(length, np.float32)
    for first, last in runs:
        found[first:last] = 1
    return found


def test_margins_are_added_and_end_with_the_recording() -> None:
    margin = round(SPEECH_PAD * SAMPLE_RATE)
    samples = 1000 * FRAME - 7
    assert vad.spoken(frames((100, 200), length=1000), samples) == [
        Span(100 * FRAME - margin, 200 * FRAME + margin)
    ]
    assert vad.spoken(frames((2, 1000), length=1000), samples) == [Span(0, samples)]


def test_margins_that_meet_share_the_silence() -> None:
    (first, second) = vad.spoken(frames((100, 200), (210, 300), length=1000), 1000 * FRAME)
    assert first.end == second.start == 205 * FRAME
    (first, second) = vad.spoken(frames((100, 200), (219, 300), length=1000), 1000 * FRAME)
    assert second.start - first.end == 19 * FRAME - 2 * round(SPEECH_PAD * SAMPLE_RATE)


def test_a_very_short_silence_is_part_of_the_speech() -> None:
    """4 frames are 0.128 s, 5 are 0.16 s."""
    assert len(vad.spoken(frames((100, 200), (204, 300), length=1000), 1000 * FRAME)) == 1
    assert len(vad.spoken(frames((100, 200), (205, 300), length=1000), 1000 * FRAME)) == 2
    assert len(vad.spoken(frames((100, 101), (104, 105), (108, 109), length=1000), 1000 * FRAME)) == 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.9])), max_size=20),
    st.integers(0, FRAME - 1),
)
def test_speech_is_in_order_apart_and_in_the_recording(spans: list[tuple[int, float]], short: int) -> None:
    probabilities = np.repeat([p for _, p in spans], [n for n, _ in spans]).astype(np.float32)
    samples = len(probabilities) * FRAME - short if len(probabilities) else 0
    found = vad.spoken(probabilities, samples)
    margin = round(SPEECH_PAD * SAMPLE_RATE)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= start < end <= samples for start, end in found)
    runs = vad.runs(probabilities, THRESHOLD)
    cores = [(first * FRAME, min(last * FRAME, samples)) for first, last in runs]
    for start, end in cores:  # all that is speech is in one of them
        assert sum(a <= start and end <= b for a, b in found) == 1
    for start, end in found:  # and little else
        inside = [core for core in cores if start <= core[0] and core[1] <= end]
        assert inside[0][0] - start <= margin and end - inside[-1][1] <= margin
        assert all(b[0] - a[1] < MIN_SILENCE for a, b in pairwise(inside))


def speech(*spans: tuple[float, float]) -> list[Span]:
    """From seconds."""
    return [Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in spans]


def test_what_fits_into_one_window_is_one() -> None:
    assert vad.windows(speech((1, 3), (4, 20), (21, 31))) == speech((1, 31))
    assert vad.windows(speech((1, 3))) == speech((1, 3))


def test_a_window_is_cut_at_the_longest_silence_of_its_last_third() -> None:
    said = speech((0, 7), (8, 19), (20, 22), (23.4, 26), (27, 29.5), (29.7, 35))
    assert vad.windows(said) == speech((0, 22), (23.4, 35))
    # Without one there, where it is full.
    said = speech((0, 8), (9, 12), (13, 18), (19, 60))
    assert vad.windows(said) == speech((0, 18), (19, 60))
    # Of equally long silences, the first.
    said = speech((0, 21), (22, 24), (25, 28), (29, 33))
    assert vad.windows(said) == speech((0, 21), (22, 33))


def test_a_long_silence_ends_a_window() -> None:
    assert vad.windows(speech((0, 2), (8, 10), (11, 14))) == speech((0, 2), (8, 14))
    assert vad.windows(speech((0, 2), (2 + LONGEST_SILENCE, 10))) == speech((0, 10))


def test_the_first_window_may_be_wanted_whole() -> None:
    """With its pauses, for the detection of the language."""
    said = speech((0, 1), (8, 10), (25, 28), (31, 33), (40, 41))
    assert vad.windows(said, first_whole=True) == speech((0, 28), (31, 33), (40, 41))
    said = speech((0, 1), (32, 40), (45, 46))  # half a minute, not more
    assert vad.windows(said, first_whole=True) == vad.windows(said)
    said = speech(
        (0, 1), (3, 19), (20, 22), (24, 29), (29.5, 40)
    )  # cut at the longest silence, as others are
    assert vad.windows(said, first_whole=True) == speech((0, 22), (24, 40))


def test_windows_may_be_shorter() -> None:
    said = speech((0, 4), (4.5, 9), (10, 12), (12.2, 18), (20, 33))
    assert vad.windows(said, 10) == speech((0, 9), (10, 18), (20, 33))
    assert vad.windows(said, 1) == said
    assert vad.windows(said, 20) == speech((0, 18), (20, 33))
    assert vad.windows(speech((0, 6.8), (7.8, 9), (9.2, 12)), 10) == speech((0, 6.8), (7.8, 12))


def test_speech_without_a_silence_is_one_window() -> None:
    assert vad.windows(speech((0, 2), (3, 75), (76, 77))) == speech((0, 2), (3, 75), (76, 77))


@st.composite
def anything_said(draw: st.DrawFn) -> list[Span]:
    """Spans of speech in order; in hundredths of a second, so that some are exactly at the limits."""
    spans = draw(
        st.lists(
            st.tuples(
                st.one_of(st.integers(0, 200), st.integers(480, 520), st.integers(0, 4000)),
                st.one_of(st.integers(10, 900), st.integers(2900, 3100), st.integers(10, 7000)),
            ),
            max_size=25,
        )
    )
    said, at = [], 0
    for pause, length in spans:
        at += pause
        said.append(Span(at * SAMPLE_RATE // 100, (at + length) * SAMPLE_RATE // 100))
        at += length
    return said


@settings(deadline=None, max_examples=300)
@given(anything_said(), st.sampled_from([30, 10, 3]))
def test_windows(said: list[Span], seconds: int) -> None:
    """The properties of windows: they are cut at the right places, and only if necessary."""
    longest = LONGEST_SILENCE * SAMPLE_RATE
    found, most = vad.windows(said, seconds), seconds * SAMPLE_RATE
    rest = list(said)
    for window in found:
        taken = [span for span in rest if span.end <= window.end]
        # All speech in order, each span once and whole.
        assert taken == rest[: len(taken)]
        assert window == Span(taken[0].start, taken[-1].end)
        rest = rest[len(taken) :]
        # Not too long, unless there is nowhere to cut; no long silence inside.
        assert window.end - window.start <= most or len(taken) == 1
        assert all(b.start - a.end <= longest for a, b in pairwise(taken))
        if not rest or (pause := rest[0].start - window.end) > longest:
            continue
        # Cut at a short pause: only if not all up to the next long one would fit …
        near = [*taken, rest[0]]
        for span in rest[1:]:
            if span.start - near[-1].end > longest:
                break
            near.append(span)
        assert near[-1].end - window.start > most
        # … and where it is longest, of the late ones.
        late = [
            after.start - before.end
            for before, after in pairwise(near)
            if LATE * most < before.end - window.start <= most
        ]
        if late:
            assert pause == max(late)
        else:  # as full as can be
            assert rest[0].end - window.start > most
    assert rest == []


def test_torch_is_not_needed_for_it() -> None:
    """It works while torch is being imported."""

    code = "import sys; from preheat.audio import recording, vad; "
    code += "vad.Detector.load(); print('torch' in sys.modules, 'silero_vad' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False False\n"
