"""The options that say what is read, and what is written where."""

import argparse
from pathlib import Path

from preheat.delivery import IF_EXISTS
from preheat.formats import FORMATS
from preheat.values import count, formats


def add_places(parser: argparse.ArgumentParser) -> None:
    """What to transcribe, and where the results go."""
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="FILE",
        help="a recording, a folder of them, s3://bucket/key or prefix/, https://…, or - for standard input",
    )
    add(
        "--files_from",
        action="append",
        default=[],
        metavar="LIST",
        help="a file with further ones, one a line, or with null bytes between; - for standard input",
    )
    add(
        "--audio_track",
        type=count,
        default=0,
        metavar="N",
        help="which one of several, as in videos, from 1 on (default: the main one)",
    )
    add(
        "-o",
        "--output_dir",
        dest="outputs",
        action="append",
        default=[],
        metavar="DIR",
        help="write to files there, a folder or s3://bucket/prefix/; -o twice: to both (default: to stdout)",
    )
    add(
        "--if_exists",
        choices=IF_EXISTS,
        default="replace",
        help="what to do with a recording whose results are there (default: replace them)",
    )
    add(
        "--skip_existing",
        dest="if_exists",
        action="store_const",
        const="skip",
        help="as --if_exists skip: go on where an earlier run has stopped",
    )
    add(
        "-f",
        "--output_format",
        dest="formats",
        type=formats,
        action="extend",
        metavar="FORMAT[,FORMAT…]",
        help=f"{', '.join(FORMATS)} or all (default: txt)",
    )
    add("--summary", type=Path, metavar="FILE", help="write there, as JSON, what became of each recording")
    add(
        "--log_format",
        choices=("text", "json"),
        default="text",
        help="of what is told on stderr (default: text)",
    )
