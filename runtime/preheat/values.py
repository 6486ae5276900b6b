"""Converters of the command line's option values, for argparse's `type`."""

import math
import os
from argparse import ArgumentTypeError

from preheat.formats import FORMATS
from preheat.model import languages


def formats(text: str) -> list[str]:
    """The value of -f."""
    names = text.split(",")
    if unknown := [name for name in names if name not in (*FORMATS, "all")]:
        raise ArgumentTypeError(f"unknown format {unknown[0]!r}; choose from {', '.join(FORMATS)}, all")
    return [each for name in names for each in (FORMATS if name == "all" else [name])]


def language(text: str) -> str:
    """The code of a language that Whisper was trained on; not every model knows all of them."""
    if (code := languages.code(text)) is None:
        meant = languages.suggestion(text)
        hint = f"did you mean {meant}? " if meant else ""
        raise ArgumentTypeError(f"unknown language {text!r}; {hint}--help lists all")
    return code


def utf8(text: str) -> str:
    """An argument's bytes decoded as UTF-8, whatever the locale."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError as error:
        raise ArgumentTypeError("it is not UTF-8; convert it with iconv") from error


def boolean(text: str) -> bool:
    """True or False, as openai/whisper's command line takes them."""
    if text not in ("True", "False"):
        raise ArgumentTypeError(f"{text!r} is neither True nor False")
    return text == "True"


def negated(text: str) -> bool:
    """The opposite boolean, for options of other commands that mean the opposite of ours."""
    return not boolean(text)


def count(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def temperatures(text: str) -> tuple[float, ...]:
    """The value of --temperature."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 <= value <= 1 for value in values):
        raise ArgumentTypeError(f"{text!r} is not a list of numbers from 0 to 1, as in 0,0.2,0.4")
    return values


def threshold(text: str) -> float | None:
    """A number, or None to disable the test."""
    if text == "None":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ArgumentTypeError(f"{text!r} is neither a number nor None")
    return value


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a number") from error


def increment(text: str) -> float:
    """A number above 0; for None, one so large that no further temperature follows."""
    value = threshold(text)
    if value is not None and value <= 0:
        raise ArgumentTypeError(f"{text!r} is not a number above 0, nor None")
    return 2.0 if value is None else value
