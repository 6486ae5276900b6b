"""Subtitles by broadcasters' rules, or laid out as by openai/whisper; srt and vtt."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from preheat.cues import COLUMNS, Cue, cues
from preheat.transcript import Segment, Transcript, Word

LONG_PAUSE = 3.0  # s, from the start of one word to that of the next
UNLIMITED = 1000  # characters in a line, or words in a cue
ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})  # what WebVTT takes for markup


@dataclass(frozen=True)
class Lines:
    """openai/whisper's options for the layout of subtitles, with its names."""

    max_line_width: int | None = None  # characters
    max_line_count: int | None = None  # lines in a cue; no effect without max_line_width
    max_words_per_line: int | None = None  # words in a cue
    highlight_words: bool = False  # a cue for each word, with that underlined


class Subtitles(NamedTuple):
    """The subtitles of a recording."""

    cues: list[Cue]
    openai: bool  # laid out as by openai/whisper: written byte for byte as it does


def subtitles(transcript: Transcript, lines: Lines) -> Subtitles:
    """Subtitles by the rules of cues.py; openai/whisper's if `lines` are set or words are missing.

    Cues of one channel do not overlap. Those of different channels may, as people talk at the same time.
    """
    segments = transcript.segments
    wordless = bool(segments) and segments[0].words is None
    openai = wordless or lines != Lines()
    shown = []
    for voice in dict.fromkeys(segment.channel for segment in segments):
        own = [segment for segment in segments if segment.channel == voice]
        if wordless:
            made = list(by_segments(own))
        elif openai:
            made = list(by_words(own, lines))
        else:
            made = cues(own, COLUMNS - len(f"{voice}: ") if voice else COLUMNS)
        shown += [cue._replace(voice=voice) for cue in made]
    if any(cue.voice for cue in shown):
        shown.sort(key=lambda cue: cue.start)
    return Subtitles(shown, openai)


def srt(shown: Subtitles) -> str:
    """SubRip, which cannot escape "-->" in a text."""
    return "".join(
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n"
        f"{f'{cue.voice}: ' if cue.voice else ''}"
        f"{cue.text if shown.openai else cue.text.replace('-->', '->')}\n\n"
        for number, cue in enumerate(shown.cues, start=1)
    )


def vtt(shown: Subtitles) -> str:
    """WebVTT; in openai/whisper's layout hours are omitted if 0, and nothing is escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{clock(cue.start, '.', hours=not shown.openai)} --> {clock(cue.end, '.', hours=not shown.openai)}\n"
        f"{f'<v {cue.voice}>' if cue.voice else ''}"
        f"{cue.text if shown.openai else cue.text.translate(ENTITIES)}\n\n"
        for cue in shown.cues
    )


def clock(seconds: float, marker: str, *, hours: bool = True) -> str:
    """HH:MM:SS, `marker`, milliseconds; unless `hours`, without HH if it is 0."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    whole, minutes = divmod(minutes, 60)
    text = f"{minutes:02d}:{milliseconds // 1000:02d}{marker}{milliseconds % 1000:03d}"
    return f"{whole:02d}:{text}" if hours or whole else text


def by_segments(segments: list[Segment]) -> Iterator[Cue]:
    """A cue for each segment."""
    return (Cue(s.start, s.end, s.text.strip().replace("-->", "->")) for s in segments)


def by_words(segments: list[Segment], lines: Lines) -> Iterator[Cue]:
    """Cues by the options in `lines`; with highlight_words, one for each word and each pause."""
    for words in groups(segments, lines):
        text = "".join(word.word for word in words)
        shown_until = words[0].start
        if not lines.highlight_words:
            yield Cue(shown_until, words[-1].end, text)
            continue
        for i, word in enumerate(words):
            if round(1000 * shown_until) != round(1000 * word.start):
                yield Cue(shown_until, word.start, text)
            marked = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", word.word)
            parts = [*words[:i], replace(word, word=marked), *words[i + 1 :]]
            yield Cue(word.start, word.end, "".join(part.word for part in parts))
            shown_until = word.end


def groups(segments: list[Segment], lines: Lines) -> Iterator[list[Word]]:
    """The words of each cue, with a line break before a word that begins a new line.

    With both max_line_width and max_line_count a cue may span segments, but not a LONG_PAUSE; otherwise each
    segment begins a new cue. As in openai/whisper (utils.py there), words are never split, and the width
    counts the characters of the text, spaces included.
    """
    over_segments = lines.max_line_width is not None and lines.max_line_count is not None
    widest, most = lines.max_line_width or UNLIMITED, lines.max_words_per_line or UNLIMITED
    group: list[Word] = []
    length, count = 0, 1  # characters in the line, and lines in the cue
    last = next((word.start for segment in segments for word in segment.words or []), 0.0)
    for segment in segments:
        for i, word in enumerate(segment.words or []):
            text = word.word
            pause = over_segments and word.start - last > LONG_PAUSE
            begins = i % most == 0 and bool(group) and not over_segments
            if 0 < length <= widest - len(text) and not pause and not begins:
                length += len(text)
            else:
                text = text.strip()
                full = lines.max_line_count is not None and (pause or count >= lines.max_line_count)
                if begins or (group and full):
                    yield group
                    group, count = [], 1
                elif length > 0:
                    count += 1
                    text = "\n" + text
                length = len(text.strip())
            group.append(replace(word, word=text))
            last = word.start
    if group:
        yield group
