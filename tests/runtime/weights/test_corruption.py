"""A thousand kinds of random damage: each is detected, or harmless.

Loading a damaged file gives the original tensors or a StateError: never other tensors, another exception, a
crash, or an allocation of a size that only the header claims.
"""

import json
import resource
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.model.layout import Dimensions
from preheat.weights import state, statefile, transfer
from preheat.weights.checkpoint import Packed
from preheat.weights.readahead import ReadAhead
from tests.runtime import handmade
from tests.runtime.handmade import SMALL_CHUNK, header_of, same, with_header

ROOM = 2 << 30  # bytes of address space left to the tests; less than false headers claim


def examples(number: int) -> settings:
    """The same examples on every run."""
    return settings(max_examples=number, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module", autouse=True)
def limits() -> Iterator[None]:
    """Small chunks, so that a small file has several; and a limit of address space."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statefile, "CHUNK", SMALL_CHUNK)
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, old[1]))
        yield
        resource.setrlimit(resource.RLIMIT_AS, old)


class Case:
    """A file, what is in it, and where to put a damaged copy."""

    def __init__(self, path: Path, packed: Packed, scratch: Path) -> None:
        self.content, self.scratch = path.read_bytes(), scratch
        self.tensors, _ = packed
        self.header, self.data = header_of(self.content)
        self.metadata = self.header["__metadata__"]
        self.start = len(self.content) - len(self.data)

    def judge(self, content: bytes, *, signed: bool = False) -> None:
        """Fail unless the damage is detected or harmless.

        With `signed` (the header has a correct digest) the metadata may differ, as in a file of another
        program, but not the tensors.
        """
        self.scratch.write_bytes(content)
        for load, device in ((state.load, "cpu"), (streamed, "cuda")):
            try:
                tensors, metadata = load(ReadAhead(self.scratch, device))
            except statefile.StateError as error:
                message = str(error)
                assert str(self.scratch) in message and message.endswith("; run state.py bake again")
                assert "\n" not in message
                assert content != self.content
                continue
            assert same(tensors, self.tensors)
            assert signed or (content == self.content and metadata == self.metadata)


def streamed(reading: ReadAhead) -> Packed:
    """Load as state.load does for a GPU."""
    data = transfer.to_device(reading, "cpu", threads=2)
    return state.views(data, reading.header().entries), reading.header().metadata


@pytest.fixture(scope="module")
def small(limits: None, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A file of random numbers with several chunks."""
    folder = tmp_path_factory.mktemp("small")
    return Case(folder / "whole", handmade.small(folder / "whole"), folder / "damaged")


@pytest.fixture(scope="module")
def real(limits: None, baked: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The fixture model's, with chunks of the usual size."""
    path = baked / "state/whisper-nato.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statefile, "CHUNK", 16 << 20)
        return Case(path, state.load(ReadAhead(path)), tmp_path_factory.mktemp("real") / "damaged")


def flipped(content: bytes, bits: set[int]) -> bytes:
    damaged = bytearray(content)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_the_judge_lets_nothing_else_pass(small: Case) -> None:
    small.judge(small.content)
    header = deepcopy(small.header)
    header["__metadata__"]["provenance"] = "{}"
    other = with_header(header, small.data)
    small.judge(other, signed=True)
    with pytest.raises(AssertionError):
        small.judge(other)
    data = bytes(len(small.data))
    chunks = [memoryview(data)[at : at + SMALL_CHUNK] for at in range(0, len(data), SMALL_CHUNK)]
    header["__metadata__"]["xxh3_64"] = json.dumps(list(statefile.checksums(chunks)))
    with pytest.raises(AssertionError):
        small.judge(with_header(header, data), signed=True)


@examples(250)
@given(draw=st.data())
def test_flipped_bits(draw: st.DataObject, small: Case) -> None:
    """Half of the time in the header, which is small."""
    end = draw.draw(st.sampled_from([small.start, len(small.content)]))
    bits = draw.draw(st.sets(st.integers(0, 8 * end - 1), min_size=1, max_size=4))
    small.judge(flipped(small.content, bits))


@examples(50)
@given(draw=st.data())
def test_flipped_bits_of_a_real_file(draw: st.DataObject, real: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statefile, "CHUNK", 16 << 20)
        real.judge(flipped(real.content, {draw.draw(st.integers(0, 8 * len(real.content) - 1))}))


@examples(150)
@given(draw=st.data())
def test_cut_or_longer(draw: st.DataObject, small: Case) -> None:
    """Cut at any length, with and without other bytes in place of the rest."""
    length = draw.draw(st.integers(0, len(small.content)) | st.just(len(small.content)))
    tail = draw.draw(st.binary(max_size=20) | st.sampled_from([b"", bytes(len(small.content) - length)]))
    small.judge(small.content[:length] + tail)


@examples(100)
@given(draw=st.data())
def test_swapped(draw: st.DataObject, small: Case) -> None:
    """Two stretches of the data: chunks, pages, sectors, words."""
    size = draw.draw(st.sampled_from([SMALL_CHUNK, 4096, 512, 8]))
    places = st.integers(0, len(small.data) // size - 1)
    a, b = sorted(draw.draw(st.lists(places, min_size=2, max_size=2, unique=True)))
    pieces = [small.data[at : at + size] for at in range(0, len(small.data), size)]
    pieces[a], pieces[b] = pieces[b], pieces[a]
    small.judge(small.content[: small.start] + b"".join(pieces))


@examples(100)
@given(length=st.integers(0, (1 << 64) - 1) | st.integers(0, 1 << 20) | st.integers(0, 5).map((4096).__mul__))
def test_a_wrong_length_of_the_header(length: int, small: Case) -> None:
    small.judge(length.to_bytes(8, "little") + small.content[8:])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@examples(250)
@given(draw=st.data(), sign=st.booleans())
def test_an_edited_header(draw: st.DataObject, sign: bool, small: Case) -> None:
    """An entry, one of its fields or a metadata string changed, removed or added; also with a new digest."""
    header: Any = deepcopy(small.header)
    place = header
    if draw.draw(st.booleans()):
        place = header["__metadata__"]
    elif draw.draw(st.booleans()):
        place = header[draw.draw(st.sampled_from(sorted(header)[1:]))]
    key = draw.draw(st.sampled_from(sorted(place)) | st.text(max_size=4))
    how = draw.draw(st.sampled_from(["any", "gone", "text", "other text", "number", "same as another"]))
    if how == "gone":
        place.pop(key, None)
    elif how == "same as another":
        place[key] = place[draw.draw(st.sampled_from(sorted(place)))]
    elif how == "other text" and isinstance(place.get(key), str) and place[key]:
        at = draw.draw(st.integers(0, len(place[key]) - 1))
        place[key] = place[key][:at] + draw.draw(st.characters()) + place[key][at + 1 :]
    elif how == "number" and isinstance(place.get(key), list) and place[key]:
        at = draw.draw(st.integers(0, len(place[key]) - 1))
        place[key][at] = draw.draw(st.integers(-5, 1 << 64))
    elif how == "text":
        place[key] = json.dumps(draw.draw(JSON))
    else:
        place[key] = draw.draw(JSON)
    if header == small.header:
        return
    small.judge(with_header(header, small.data, sign=sign), signed=sign)


@examples(100)
@given(draw=st.data())
def test_a_huge_claim(draw: st.DataObject, small: Case) -> None:
    """Consistent dimensions and entries with a correct digest, but larger than any machine's memory."""
    huge = st.integers(1 << 24, 1 << 70) | st.sampled_from([1 << 32, (1 << 31) - 1, 1 << 63])
    # A number of layers is changed without the entries, of which there would be as many.
    names = sorted(set(vars(handmade.DIMENSIONS)) - {"encoder_attention_heads", "decoder_attention_heads"})
    name = draw.draw(st.sampled_from(names))
    dims = Dimensions(**vars(handmade.DIMENSIONS) | {name: draw.draw(huge)})
    header = deepcopy(small.header)
    if "layers" not in name:
        header |= statefile.describe(dims, "float32")
    header["__metadata__"]["dimensions"] = json.dumps(vars(dims))
    small.judge(with_header(header, small.data), signed=True)
