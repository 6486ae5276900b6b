"""whisper.py and decoding.py compute what transformers computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from preheat.audio import audiofile
from preheat.model.decoding import Batch, Decoder
from preheat.model.features import log_mel
from preheat.model.layout import Dimensions
from preheat.model.sequential import transcribe
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Cache, Whisper
from preheat.options import Options
from preheat.weights import checkpoint

WINDOW_FRAMES = 3000  # of a real Whisper: 30 s

Pair = tuple[Any, Whisper, Vocabulary]  # Any: transformers' methods have no types

# Every dimension differs from the fixture's, and the other half is the deeper one.
SHAPES = {
    "narrow": {
        "d_model": 48,
        "encoder_layers": 3,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 100,
        "decoder_layers": 1,
        "decoder_attention_heads": 3,
        "decoder_ffn_dim": 60,
        "num_mel_bins": 128,
        "max_source_positions": 200,
        "max_target_positions": 96,
    },
    "wide": {
        "d_model": 96,
        "encoder_layers": 2,
        "encoder_attention_heads": 3,
        "encoder_ffn_dim": 384,
        "decoder_layers": 2,
        "decoder_attention_heads": 6,
        "decoder_ffn_dim": 400,
        "num_mel_bins": 80,
        "max_source_positions": 400,
        "max_target_positions": 200,
    },
    "deep": {
        "d_model": 64,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 256,
        "decoder_layers": 4,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 128,
        "num_mel_bins": 80,
        "max_source_positions": 600,
        "max_target_positions": 120,
    },
}


def random_checkpoint(folder: Path, shape: dict[str, int], source: Path) -> None:
    """A model with random weights everywhere, biases and norms included; tokenizer of the fixture."""
    tokenizer = WhisperTokenizer.from_pretrained(source)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        suppress_tokens=[11, 13],
        begin_suppress_tokens=[220, tokenizer.eos_token_id],
        **shape,  # type: ignore[arg-type]  # all of them are integers
    )
    torch.manual_seed(sum(shape.values()))
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(mean=1.0 if "norm.weight" in name else 0.0, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor: Any = WhisperFeatureExtractor
    extractor(feature_size=shape["num_mel_bins"]).save_pretrained(folder)


@pytest.fixture(scope="module", params=["fixture", *SHAPES])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path
) -> Pair:
    """The same weights in transformers' network and in ours."""
    folder = checkpoint_folder
    if request.param != "fixture":
        folder = tmp_path_factory.mktemp(request.param)
        random_checkpoint(folder, SHAPES[request.param], checkpoint_folder)
    tensors, metadata = checkpoint.pack(folder, torch.float32)
    theirs: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    ours = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    return theirs.eval(), ours, Vocabulary(metadata)


def random_mel(network: Whisper, windows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (windows, network.dims.num_mel_bins, 2 * network.dims.max_source_positions)
    return torch.randn(shape, generator=generator) * 0.5


def mel_to_decode(network: Whisper, samples: Path) -> torch.Tensor:
    """Two windows for which the network writes something: the trained one needs speech."""
    frames = 2 * network.dims.max_source_positions
    if frames < WINDOW_FRAMES:
        return random_mel(network, windows=2)
    sound = torch.from_numpy(audiofile.decode(samples / "long.flac").samples)
    mel = log_mel(sound, network.window, network.filters)
    return torch.stack((mel[:, :frames], mel[:, frames : 2 * frames]))


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def heard(network: Whisper, features: torch.Tensor, capacity: int = 64) -> Cache:
    """A cache of these windows, without tokens."""
    cache = network.cache(len(features), capacity)
    network.prefill_cross(features, cache)
    return cache


@torch.inference_mode()
def test_logits_agree(pair: Pair) -> None:
    """For a batch: in one pass, step by step with the cache, and with the step that is captured on a GPU."""
    theirs, ours, _ = pair
    mel = random_mel(ours, windows=2)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(ours.dims.vocab_size, (2, 9), generator=generator)
    wanted = theirs(input_features=mel, decoder_input_ids=tokens).logits
    features = ours.encode(mel)
    assert relative_error(features, theirs.model.encoder(mel).last_hidden_state) < 1e-4
    assert relative_error(ours.decode(tokens, heard(ours, features)), wanted) < 1e-4
    cache = heard(ours, features)
    steps = [ours.decode(piece, cache) for piece in torch.split(tokens, [4, 1, 1, 2, 1], dim=1)]
    assert relative_error(torch.cat(steps, dim=1), wanted) < 1e-4
    cache = heard(ours, features)
    ours.decode(tokens[:, :4], cache)
    captured = [ours.step(tokens[:, at : at + 1], torch.tensor([at]), cache) for at in range(4, 9)]
    assert relative_error(torch.stack(captured, dim=1), wanted[:, 4:]) < 1e-4


@torch.inference_mode()
def test_a_cache_is_used_again(pair: Pair) -> None:
    """What it held before leaves no trace."""
    _, ours, _ = pair
    first, second = ours.encode(random_mel(ours, windows=2))[:, None]
    tokens = torch.tensor([[1, 2, 3]])
    cache = heard(ours, first)
    ours.decode(torch.tensor([[4, 5, 6, 7]]), cache)
    ours.prefill_cross(second, cache)
    assert torch.equal(ours.decode(tokens, cache), ours.decode(tokens, heard(ours, second)))


def settings(vocabulary: Vocabulary, **changes: Any) -> Any:
    """transformers' generation settings that ask for what ours do; Any, for they have no types."""
    untyped: Any = GenerationConfig
    return untyped(
        decoder_start_token_id=vocabulary.start,
        eos_token_id=vocabulary.end,
        pad_token_id=vocabulary.end,
        lang_to_id={f"<|{code}|>": id_ for code, id_ in vocabulary.languages.items()},
        task_to_id=vocabulary.tasks,
        no_timestamps_token_id=vocabulary.no_timestamps,
        prev_sot_token_id=vocabulary.start_of_previous,
        is_multilingual=True,
        suppress_tokens=vocabulary.suppressed,
        begin_suppress_tokens=vocabulary.begin_suppressed or None,
        max_initial_timestamp_index=vocabulary.max_initial_timestamp,
        **changes,
    )


def generated(theirs: Any, mel: torch.Tensor, **options: Any) -> list[list[int]]:
    """All tokens of each window by transformers' generate: greedy, prompt included, nothing after the end."""
    options = {"language": "en", "task": "transcribe", "return_timestamps": True} | options
    end = theirs.generation_config.eos_token_id
    found: Any = theirs.generate(mel, do_sample=False, num_beams=1, return_segments=True, **options)
    # Each segment has all tokens generated for its window, including prompt and end. Later segments may be of
    # another window, which starts at a timestamp.
    rows = [segments[0]["result"].tolist() for segments in found["segments"]]
    return [[token for token in row if token != end] for row in rows]


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "as captured"])
@pytest.mark.parametrize("latest_start", [None, 20])
def test_greedy_tokens_agree(
    pair: Pair, latest_start: int | None, captured: bool, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of windows decoded with timestamps. `latest_start`: max_initial_timestamp_index, or none."""
    theirs, ours, vocabulary = pair
    if captured:  # the path that a GPU takes, without the graph
        initialise = Batch.__init__

        def as_captured(self: Batch, *arguments: Any) -> None:
            initialise(self, *arguments)
            self.captured = True

        monkeypatch.setattr(Batch, "__init__", as_captured)
    monkeypatch.setattr(vocabulary, "max_initial_timestamp", latest_start)
    mel = mel_to_decode(ours, samples)
    theirs.generation_config = settings(vocabulary)
    longest = ours.dims.max_target_positions // 2
    wanted = [row[3:] for row in generated(theirs, mel, max_new_tokens=longest)]
    prompt = vocabulary.prompt("en", "transcribe", timestamps=True)
    results = Decoder(ours, vocabulary).decode_once(ours.encode(mel), prompt)
    assert [result.tokens for result in results] == wanted
    assert all(len(row) > 1 for row in wanted)


@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_greedy_tokens_without_timestamps_agree(pair: Pair, task: str, samples: Path) -> None:
    theirs, ours, vocabulary = pair
    mel = mel_to_decode(ours, samples)
    theirs.generation_config = settings(vocabulary)
    longest = ours.dims.max_target_positions // 2
    wanted = generated(theirs, mel, max_new_tokens=longest, task=task, return_timestamps=False)
    prompt = vocabulary.prompt("en", task, timestamps=False)
    results = Decoder(ours, vocabulary).decode_once(ours.encode(mel), prompt)
    assert [prompt + result.tokens for result in results] == wanted
    assert vocabulary.tasks[task] in prompt


def test_tokens_after_a_prompt_agree(pair: Pair, samples: Path) -> None:
    theirs, ours, vocabulary = pair
    mel = mel_to_decode(ours, samples)
    before = vocabulary.encode("alpha nine bravo")
    theirs.generation_config = settings(vocabulary)
    prompt_ids = torch.tensor([vocabulary.start_of_previous, *before])
    longest = ours.dims.max_target_positions // 2 - len(prompt_ids)
    wanted = generated(theirs, mel, prompt_ids=prompt_ids, max_new_tokens=longest)
    decoder = Decoder(ours, vocabulary)
    prompt = decoder.prompt("en", before)
    results = decoder.decode_once(ours.encode(mel), prompt)
    assert prompt[: len(prompt_ids)] == prompt_ids.tolist()
    for result, row in zip(results, wanted, strict=True):
        assert row[: len(prompt)] == prompt
        assert result.tokens[: len(row) - len(prompt)] == row[len(prompt) :]
        assert len(row) > len(prompt)


def test_detected_language_agrees(pair: Pair, samples: Path) -> None:
    theirs, ours, vocabulary = pair
    mel = mel_to_decode(ours, samples)
    theirs.generation_config = settings(vocabulary)
    wanted = theirs.detect_language(mel, generation_config=theirs.generation_config).tolist()
    codes = list(vocabulary.languages)
    found = [codes[best] for best in Decoder(ours, vocabulary).languages(ours.encode(mel)).argmax(dim=1)]
    assert [vocabulary.languages[code] for code in found] == wanted


@pytest.mark.parametrize("condition", [False, True], ids=["alone", "on previous text"])
def test_sequential_long_form_agrees(
    condition: bool, pair: Pair, samples: Path, request: pytest.FixtureRequest
) -> None:
    """The seek loop over a recording of three windows, with the no-speech rule."""
    theirs, ours, vocabulary = pair
    if 2 * ours.dims.max_source_positions < WINDOW_FRAMES:
        pytest.skip("a random model of shorter windows has nothing to say to speech")
    theirs.generation_config = settings(vocabulary)
    sound = audiofile.decode(samples / "long.flac").samples
    extractor: Any = WhisperFeatureExtractor
    inputs = extractor(feature_size=ours.dims.num_mel_bins)(
        sound, sampling_rate=16000, return_tensors="pt", truncation=False, padding="longest",
        return_attention_mask=True,
    )  # fmt: skip
    found: Any = theirs.generate(
        inputs.input_features,
        attention_mask=inputs.attention_mask,
        language="en",
        task="transcribe",
        return_timestamps=True,
        return_segments=True,
        condition_on_prev_tokens=condition,
        temperature=0.0,
        do_sample=False,
        num_beams=1,
        logprob_threshold=-1.0,
        no_speech_threshold=0.6,
        max_new_tokens=ours.dims.max_target_positions // 2,
    )
    first = vocabulary.first_timestamp
    wanted = [segment["tokens"].tolist() for segment in found["segments"][0]]
    # theirs marks the last segment before a cut by the start of the next one: … <|2.0|><|2.4|>
    wanted = [row[:-1] if min(row[-2:]) >= first else row for row in wanted]
    wanted = [row for row in wanted if any(token < vocabulary.end for token in row)]
    options = Options(language="en", temperature=(0.0,), condition_on_previous_text=condition)
    ours_found = transcribe(Decoder(ours, vocabulary, options), torch.from_numpy(sound), [])
    assert [segment.tokens for segment in ours_found.segments] == wanted
    assert len(wanted) > 5
