"""What makes a GPU slow or fail, as far as testable without one: layouts, kinds and numbers of calls.

GPU tensors are torch's fake ones, which have a device and a shape, but no data.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.vad import Span
from preheat.model import alignment, batched, sequential, warmup, whisper
from preheat.model.decoding import Batch, Decoder, Kind, Result
from preheat.model.graph import Graphs
from preheat.model.layout import Dimensions, layout
from preheat.model.logit_filters import History
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.options import Options
from preheat.timing import Log
from preheat.weights import checkpoint

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def packed(checkpoint_folder: Path) -> checkpoint.Packed:
    """The fixture model, float32."""
    return checkpoint.pack(checkpoint_folder, torch.float32, "cpu")


@pytest.fixture
def decoder(packed: checkpoint.Packed) -> Decoder:
    """With room for 16 windows."""
    tensors, metadata = packed
    dims = Dimensions.from_json(metadata["dimensions"])
    return Decoder(Whisper(tensors, dims), Vocabulary(metadata), Options(language="en"), size=16)


@pytest.fixture(scope="module")
def sound(samples: Path) -> Tensor:
    """The long sample."""
    return torch.from_numpy(audiofile.decode(samples / "long.flac").samples)


@pytest.fixture
def features(decoder: Decoder, sound: Tensor) -> Tensor:
    """Three windows of it that are not alike."""
    return batched.encode(decoder.network, sound, [Span(i * SAMPLE_RATE, 480_000) for i in (0, 3, 7)])


def cudnn() -> bool:
    """Whether torch may use cuDNN for attention."""
    return bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]  # torch's


@pytest.fixture
def attention_setting() -> Iterator[None]:
    """Torch's, put back after the test."""
    before = cudnn()
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)


def on_a_gpu(dims: Dimensions) -> Whisper:
    """A network on a GPU; to be used in FakeTensorMode."""
    tensors = {name: torch.empty(shape, dtype=torch.float16) for name, shape in layout(dims).items()}
    audiofile = {name: tensor.float() for name, tensor in tensors.items() if name.startswith("audio.")}
    return Whisper({name: tensor.cuda() for name, tensor in (tensors | audiofile).items()}, dims)


def captured(decoder: Decoder) -> None:
    """Make a decoder act as on a GPU, except for the capture."""
    decoder.forget()
    decoder.graphs.working = True
    decoder.graphs.capture = lambda function: None  # type: ignore[method-assign]


def test_layer_norms_have_nothing_to_copy(
    decoder: Decoder, sound: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's residual sum is contiguous, from the first layer to the last."""
    seen = []

    def note(x: Tensor, parameters: whisper.Pair) -> Tensor:
        seen.append(x.is_contiguous())
        return F.layer_norm(x, x.shape[-1:], *parameters)

    monkeypatch.setattr(whisper, "norm", note)
    batched.encode(decoder.network, sound, [Span(0, 480_000)] * 2)
    assert len(seen) == 2 * decoder.network.dims.encoder_layers + 1 and all(seen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_masks_are_finite_and_of_the_querys_dtype(
    dtype: torch.dtype, packed: checkpoint.Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {n: t if n.startswith("audio.") else t.to(dtype) for n, t in packed[0].items()}
    network = Whisper(tensors, Dimensions.from_json(packed[1]["dimensions"]))
    masks = []

    def note(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
        if attn_mask is not None:
            masks.append(attn_mask)
            assert attn_mask.dtype == query.dtype and attn_mask.isfinite().all()
        return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(whisper, "F", SimpleNamespace(**vars(F) | {"scaled_dot_product_attention": note}))
    cache = network.cache(2, 64)
    network.step(torch.ones(2, 1, dtype=torch.long), torch.tensor([3]), cache)
    assert len(masks) == network.dims.decoder_layers
    assert all((mask[0, :4] == 0).all() and (mask[0, 4:] < -6e4).all() for mask in masks)


@pytest.mark.usefixtures("attention_setting")
def test_attention_is_not_cudnns_on_a_gpu(decoder: Decoder) -> None:
    assert cudnn()  # a network on the CPU does not change it
    with FakeTensorMode():
        on_a_gpu(decoder.network.dims)
    assert not cudnn()


@pytest.mark.usefixtures("attention_setting")
def test_logits_are_products_of_full_tiles(decoder: Decoder, features: Tensor) -> None:
    """The padding is cut off: there are as many logits as tokens."""
    dims = decoder.network.dims
    assert dims.vocab_size % 8
    with FakeTensorMode():
        network = on_a_gpu(dims)
        assert network.output.shape[0] % 8 == 0
        logits = network.decode(torch.ones(1, 3, dtype=torch.long, device=CUDA), network.cache(1, 64))
        assert logits.shape == (1, 3, dims.vocab_size) and logits.is_contiguous()
    prompt = decoder.prompt("en", [])
    wanted = decoder.decode_once(features, prompt)
    assert decoder.network.output is decoder.network.tokens  # on the CPU nothing is copied
    decoder.network.output = F.pad(decoder.network.tokens, (0, 0, 0, 5), value=9.0)
    assert decoder.decode_once(features, prompt) == wanted


def test_one_batch_serves_all_temperatures(decoder: Decoder, features: Tensor) -> None:
    """Greedy at 0, although noise is drawn; else the same choices as with ordinary sampling."""
    prompt = decoder.prompt("en", [])
    wanted = decoder.decode_once(features, prompt)
    captured(decoder)
    decoder.options = Options(language="en", best_of=1)
    found, called = [], []
    decoder.decode_once(features, prompt)  # creates the batch, which is not compared
    for temperature in (0.0, 2.0, 3.0, 0.0):
        with Operations() as operations:
            found.append(decoder.decode_once(features, prompt, temperature))
        called.append(operations.names)
    assert all(names == called[0] for names in called)  # which would be captured
    assert words(found[0]) == words(found[3]) == words(wanted)
    assert words(found[1]) != words(found[2]) != words(wanted)
    assert len(decoder.kept) == 1


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Notes which operations are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def words(results: list[Result]) -> list[list[int]]:
    """The tokens of each window."""
    return [result.tokens for result in results]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_tokens_are_chosen_with_their_probability(temperature: float, decoder: Decoder) -> None:
    """Of 4,000 choices; what is forbidden is never chosen."""
    batch = Batch(decoder.network, decoder.vocabulary, Kind(1, 1, True), decoder.graphs)
    batch.captured = True
    batch.used, batch.sampled = 1, True
    batch.temperature.fill_(temperature)
    logits = torch.full((4000, decoder.network.dims.vocab_size), float("-inf"))
    logits[:, 5] = 3.0  # one that is probable, and 20 others that together are, too
    logits[:, 6:26] = 0.0
    for name in ("sums", "ended", "newest", "tokens"):
        like = getattr(batch, name)
        setattr(batch, name, like.new_zeros(4000, *like.shape[1:]))
    batch.history = History.empty(4000, CPU)
    batch.count.zero_()
    torch.manual_seed(0)
    batch._choose(logits)
    found = batch.newest.flatten().bincount(minlength=26) / 4000
    wanted = (logits[0, 5:26] / temperature).softmax(dim=0) if temperature else torch.eye(21)[0]
    assert found[5:26].tolist() == pytest.approx(wanted.tolist(), abs=0.03)
    assert found[5:26].sum() == pytest.approx(1)


def test_noise_of_nothing_is_no_error(
    decoder: Decoder, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exponential variable may be 0, and its logarithm is not finite then."""
    prompt = decoder.prompt("en", [])
    wanted = decoder.decode_once(features, prompt)
    monkeypatch.setattr(Tensor, "exponential_", Tensor.zero_)
    captured(decoder)
    assert words(decoder.decode_once(features, prompt)) == words(wanted)


@pytest.mark.parametrize(
    "case", [(3, 1, 16, 4), (1, 5, 16, 8), (3, 11, 64, 48), (3, 1, 3, 3), (1, 5, 6, 6), (1, 5, 1, 5)]
)
def test_few_numbers_of_rows_are_captured(
    case: tuple[int, int, int, int], decoder: Decoder, features: Tensor
) -> None:
    """Powers of two, then multiples of TILE, up to the decoder's size; unused rows change nothing."""
    windows, best_of, size, rows = case
    prompt = decoder.prompt("en", [])
    wanted = decoder.decode_once(features[:windows], prompt)
    decoder.size = size
    captured(decoder)
    decoder.options = Options(language="en", best_of=best_of)
    if best_of == 1:
        found = decoder.decode_once(features[:windows], prompt)
        assert words(found) == words(wanted)
        assert [r.no_speech_prob for r in found] == pytest.approx([r.no_speech_prob for r in wanted])
    else:
        assert len(decoder.decode_once(features[:windows], prompt, 0.4)) == windows
    batch = next(batch for kind, batch in decoder.kept.items() if kind.rows == rows)
    assert (batch.tokens[windows * best_of :] == decoder.vocabulary.end).all()


def test_on_the_cpu_no_row_is_decoded_for_nothing(decoder: Decoder, features: Tensor) -> None:
    decoder.decode_once(features, decoder.prompt("en", []))
    assert {kind.rows for kind in decoder.kept} == {3}


def test_batches_are_kept_as_long_as_there_is_room(decoder: Decoder, features: Tensor) -> None:
    """For instance for a window and its samples; together they never exceed the rows of one full batch."""
    prompt = decoder.prompt("en", [])
    captured(decoder)
    made: list[Batch] = []
    for size, wanted in ((16, 2), (8, 6)):
        decoder.forget()
        decoder.size = size
        made.clear()
        for _ in range(3):
            for temperature in (0.0, 0.4):
                before = set(map(id, decoder.kept.values()))
                decoder.decode_once(features[:1], prompt, temperature)
                made += [batch for batch in decoder.kept.values() if id(batch) not in before]
                assert sum(kind.rows for kind in decoder.kept) <= size
        assert len(made) == wanted


def test_one_capacity_however_the_text_before_grows(
    decoder: Decoder, sound: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, rooms = set[int](), set[int]()
    once = Decoder.decode_once

    def note(self: Decoder, features: Tensor, prompt: list[int], temperature: float = 0.0) -> list[Result]:
        results = once(self, features, prompt, temperature)
        lengths.add(len(prompt))
        rooms.update(kind.capacity for kind in self.kept)
        return results

    monkeypatch.setattr(Decoder, "decode_once", note)
    sequential.transcribe(decoder, sound, [Span(0, len(sound))])
    assert len(lengths) > 1 and rooms == {decoder.network.dims.max_target_positions}


class Uploads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [argument for argument in args if isinstance(argument, Tensor)]
        made = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in [*given, made] if isinstance(x, Tensor) and x.dim()}
        self.count += len(devices) > 1
        return made


@pytest.mark.usefixtures("attention_setting")
def test_a_recording_is_sent_to_the_gpu_once(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its windows are put together there."""
    sent = []

    def decode(decoder: Decoder, samples: Tensor, spans: list[Span], *_: Any) -> Any:
        sent.append(samples.device.type)
        batched.encode(decoder.network, samples, spans)
        return [], []

    monkeypatch.setattr(batched, "decode", decode)
    speech = [Span(i * 480_000, i * 480_000 + 400_000) for i in range(8)]
    with FakeTensorMode():
        network = on_a_gpu(decoder.network.dims)
        samples = torch.zeros(8 * 480_000)
        with Uploads() as uploads:
            batched.transcribe(
                Decoder(network, decoder.vocabulary, Options(language="en"), size=4), samples, speech
            )
    assert sent == ["cuda"] * 2 and uploads.count == 1


def test_a_recording_takes_the_place_of_kept_batches(
    decoder: Decoder, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the device lacks memory for both, for instance for a long recording after others."""
    to = Tensor.to

    def scarce(self: Tensor, *where: Any) -> Tensor:
        if decoder.kept:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, *where)

    decoder.decode_once(features, decoder.prompt("en", []))
    monkeypatch.setattr(Tensor, "to", scarce)
    samples = torch.zeros(9)
    assert batched.sent(decoder, samples).equal(samples) and not decoder.kept


def test_words_are_aligned_side_by_side(
    decoder: Decoder, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync with the device for all windows, and the same times as for each window alone."""
    prompt = decoder.prompt("en", [])
    texts = [
        [token for token in result.tokens if token < decoder.vocabulary.end]
        for result in decoder.decode_once(features, prompt)
    ]
    lengths = [3000, 1500, 2200]
    alone = [
        alignment.align(decoder, features[i : i + 1], [texts[i]], [lengths[i]], "en")[0] for i in range(3)
    ]
    calls = []
    cpu = Tensor.cpu

    def note(self: Tensor) -> Tensor:
        calls.append(self.shape)
        return cpu(self)

    monkeypatch.setattr(Tensor, "cpu", note)
    together = alignment.align(decoder, features, texts, lengths, "en")
    assert len(calls) == 1
    for found, wanted in zip(together, alone, strict=True):
        assert found and [(w.text, w.start, w.end) for w in found] == [
            (w.text, w.start, w.end) for w in wanted
        ]


def test_whatever_a_recording_calls_was_called_while_the_model_was_loaded(
    decoder: Decoder, sound: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, vocabulary = decoder.network, decoder.vocabulary
    captured(decoder)
    with Operations() as needed:
        batched.transcribe(decoder, sound, [Span(0, len(sound))])
    warm = Operations()

    def working(device: torch.device, log: Log | None) -> Graphs:
        made = Graphs(device, log)
        made.working = True
        return made

    monkeypatch.setattr(warmup, "Graphs", working)
    with warm:
        warmup.warm_up(network.dims, network.dtype, network.device, vocabulary)
    # Which is made of two of the others.
    assert needed.names - warm.names <= {"aten.repeat_interleave.self_int"}
