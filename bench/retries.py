"""The cost of temperature fallback, which decodes failed windows again, by openai/whisper's rule and by ours.

    .venv/bin/python -m bench.retries [--recordings FILE …] [--languages en,de,fr,ja,ru,tr]

decodes every window of the recordings (by default those of tests/fixtures) with OpenAI's base, at all of the
usual temperatures, once with each of the languages given: only one of them is right. Prints how many windows
fail at temperature 0, how many of those a retry corrects, and how many tokens, all samples included, each
rule has decoded for the retries. openai/whisper retries up to the last temperature.
"""

import argparse
import sys
from pathlib import Path

import torch

from bench.harness import ROOT, describe, machine, table
from preheat.audio import audiofile, loudness, vad
from preheat.model import batched
from preheat.model.decoding import Decoder, Result
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.storage import InputError
from preheat.weights import checkpoint
from tests.fixtures.make import pretrained

RECORDINGS = sorted((ROOT / "tests/fixtures/recordings").glob("*.[fowma]*"))
SIZE = 3  # windows at a time; with best_of, each is decoded five times
HEAD = ("language told", "windows", "fail", "put right", "by ours", "tokens", "by ours")


def tries(decoder: Decoder, features: torch.Tensor, prompt: list[int]) -> list[list[Result]]:
    """The results of each window of `features` [B, positions, d], up to the first that does not fail."""
    made: list[list[Result]] = [[] for _ in features]
    for temperature in decoder.options.temperature:
        rows = [i for i, results in enumerate(made) if not results or results[-1].fails(decoder.options)]
        if rows:
            for row, result in zip(
                rows, decoder.decode_once(features[rows], prompt, temperature), strict=True
            ):
                made[row].append(result)
    return made


def kept(decoder: Decoder, made: list[Result]) -> list[Result]:
    """The first of these tries, as many as our rule would make."""
    return next((made[:n] for n in range(1, len(made)) if not decoder._again(made[:n])), made)


def cost(decoder: Decoder, made: list[Result]) -> int:
    """Tokens of all tries but the first, including samples that were not chosen."""
    return sum(decoder.options.best_of * (len(result.tokens) + 1) for result in made[1:])


def windows(network: Whisper, recordings: list[Path]) -> torch.Tensor:
    """The features of all windows, [B, positions, d]."""
    detector, features = vad.Detector.load(), []
    for path in recordings:
        try:
            samples = audiofile.decode(path).samples
        except InputError:  # some are invalid on purpose
            continue
        speech = vad.spoken(detector.probabilities(loudness.audible(samples)), len(samples))
        sound = torch.from_numpy(samples)
        features += [batched.encode(network, sound, [window]) for window in vad.windows(speech)]
    return torch.cat(features)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", nargs="+", type=Path, default=RECORDINGS, metavar="FILE")
    parser.add_argument("--languages", default="en,de,fr,ja,ru,tr", metavar="CODE,…")
    args = parser.parse_args()
    tensors, metadata = checkpoint.pack(pretrained.checkpoint("whisper-base"), torch.float32)
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    decoder = Decoder(network, Vocabulary(metadata), size=5 * SIZE)
    features, rows = windows(network, args.recordings), []
    for language in args.languages.split(","):
        torch.manual_seed(0)
        prompt = decoder.prompt(language, [])
        made = [
            results
            for start in range(0, len(features), SIZE)
            for results in tries(decoder, features[start : start + SIZE], prompt)
        ]
        failing = [results for results in made if results[0].fails(decoder.options)]
        ours = [kept(decoder, results) for results in failing]
        right = [sum(not results[-1].fails(decoder.options) for results in each) for each in (failing, ours)]
        tokens = [sum(cost(decoder, results) for results in each) for each in (failing, ours)]
        rows.append([language, *map(str, (len(made), len(failing), *right)), *(f"{n:,}" for n in tokens)])
    print(describe(machine(ROOT)))
    print(table(HEAD, rows, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
