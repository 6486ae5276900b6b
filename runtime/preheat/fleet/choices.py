"""How recordings are to be transcribed: the fleet's settings, and the metadata of each object above them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from preheat.formats import FORMATS
from preheat.model import languages
from preheat.options import Options, UsageError

NAMES = ("language", "task", "formats", "prompt")


@dataclass(frozen=True)
class Choices:
    """How to transcribe, and the formats of the results."""

    options: Options = field(default_factory=Options)
    formats: tuple[str, ...] = FORMATS


def chosen(said: Mapping[str, str], before: Choices) -> Choices:
    """What `said` asks for, by NAMES, and the rest as `before`; "" says nothing. Raises UsageError."""
    options, formats = before.options, before.formats
    if name := said.get("language"):
        options = replace(options, language=language(name))
    if task := said.get("task"):
        options = replace(options, task=task)
    if prompt := said.get("prompt"):
        options = replace(options, initial_prompt=prompt)
    if names := said.get("formats"):
        formats = chosen_formats(names)
    return Choices(options, formats)


def language(text: str) -> str:
    """The code of a language. Raises UsageError."""
    if (code := languages.code(text)) is None:
        meant = languages.suggestion(text)
        raise UsageError(f"no language {text!r}; {f'is it {meant}?' if meant else 'give a code, as in en'}")
    return code


def chosen_formats(text: str) -> tuple[str, ...]:
    """Formats from a list with commas. Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in (*FORMATS, "all")]:
        raise UsageError(f"no format {unknown[0]!r}; there are {', '.join(FORMATS)}, all")
    return FORMATS if "all" in names else tuple(name for name in FORMATS if name in names)


def of_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The entries of an object's metadata by NAMES; S3 gives what is not ASCII as RFC 2047 writes it."""
    found = {name.lower(): value for name, value in metadata.items()}
    return {name: decoded(found[name]) for name in NAMES if name in found}


def decoded(value: str) -> str:
    """Text that may be encoded by RFC 2047. Raises UsageError."""
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError) as error:
        raise UsageError(
            f"its metadata {value!r} cannot be decoded ({error}); write them as UTF-8"
        ) from error
