"""Reads a Whisper checkpoint in transformers' format and packs its tensors as whisper.py needs them.

`state.py bake` writes what `pack` returns to a state file; standard loading uses it directly. transformers is
imported inside `pack` only, because importing it costs more than importing torch.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from preheat import memory
from preheat.audio.constants import HOP_LENGTH, N_FFT, SAMPLE_RATE
from preheat.model.layout import Dimensions, layout
from preheat.model.vocabulary import BYTES, Vocabulary
from preheat.timing import reason

if TYPE_CHECKING:
    from transformers import WhisperConfig, WhisperFeatureExtractor

Packed = tuple[dict[str, Tensor], dict[str, str]]  # tensors as layout.layout names them, and metadata

# Where transformers keeps what `layout.layout` names, below model.encoder. or model.decoder.
PLACES = {
    "attention.norm": ["self_attn_layer_norm"],
    "attention.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention.out": ["self_attn.out_proj"],
    "cross.norm": ["encoder_attn_layer_norm"],
    "cross.query": ["encoder_attn.q_proj"],
    "cross.kv": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "cross.out": ["encoder_attn.out_proj"],
    "mlp.norm": ["final_layer_norm"],
    "mlp.up": ["fc1"],
    "mlp.down": ["fc2"],
    "norm": ["layer_norm"],
    "positions": ["embed_positions"],
    "tokens": ["embed_tokens"],
}
GENERATION = (
    "suppress_tokens",
    "begin_suppress_tokens",
    "alignment_heads",
    "is_multilingual",
    "max_initial_timestamp_index",
)


class CheckpointError(Exception):
    """A checkpoint that cannot be read: one line with the folder, what is wrong, and the cure."""


def pack(folder: Path, dtype: torch.dtype, device: str = "cpu") -> Packed:
    """The tensors of a checkpoint, in order and of `dtype`, and the metadata for a state file.

    Nothing is fetched from the network, nothing written. Raises CheckpointError; without enough memory,
    MemoryError or what torch raises.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"no checkpoint in {folder}: it has no config.json; fetch the model again")
    # Both are read when transformers is imported. The first keeps it off the network. The second keeps
    # torch's compiler, which it imports but nothing here uses, from creating a cache folder.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
    import torch._meta_registrations  # noqa: PLC0415  loading.py leaves it out
    import transformers  # noqa: PLC0415  see the top of this file

    logging: Any = transformers.logging  # its functions have no types
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        loaded: Any = transformers.WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        network, info = loaded
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.WhisperTokenizer.from_pretrained(folder, local_files_only=True)
        dims = Dimensions(**{field.name: getattr(network.config, field.name) for field in fields(Dimensions)})
        origin = {"name": folder.resolve().name, **hub_origin(folder.resolve()), "sha256": weights(folder)}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        settings = {name: getattr(network.generation_config, name, None) for name in GENERATION}
        metadata = {
            "dtype": str(dtype).removeprefix("torch."),
            "dimensions": json.dumps(asdict(dims)),
            "tokens": json.dumps(names(tokenizer.get_vocab())),
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "generation": json.dumps(settings),
            "provenance": json.dumps({**origin, **versions}),
        }
        check(network.config, extractor, Vocabulary(metadata), info)
    except Exception as error:  # a broken file makes the libraries raise many kinds of errors
        if short := memory.shortage(error):
            raise MemoryError(short) from error
        raise CheckpointError(
            f"no usable checkpoint in {folder}: {reason(error)}; fetch the model again"
        ) from error
    tensors = fuse(network.state_dict(), extractor, dims, dtype)
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def check(
    config: "WhisperConfig",
    extractor: "WhisperFeatureExtractor",
    vocabulary: Vocabulary,
    info: dict[str, Any],
) -> None:
    """Raise ValueError unless this is a complete Whisper of the kind that whisper.py and audio/ compute."""
    if config.model_type != "whisper":
        raise ValueError(f"it is a {config.model_type} model, not a Whisper model")
    # transformers initialises missing tensors with random numbers.
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    for name, found, wanted in (
        ("activation_function", config.activation_function, "gelu"),
        ("scale_embedding", config.scale_embedding, False),
        ("tie_word_embeddings", config.tie_word_embeddings, True),
        ("feature_size", extractor.feature_size, config.num_mel_bins),
        ("n_fft", extractor.n_fft, N_FFT),
        ("hop_length", extractor.hop_length, HOP_LENGTH),
        ("sampling_rate", extractor.sampling_rate, SAMPLE_RATE),
    ):
        if found != wanted:
            raise ValueError(f"its {name} is {found}, only {wanted} is supported")
    # If the tokenizer's files are missing, transformers makes one of the special tokens only.
    if vocabulary.end != config.eos_token_id:
        raise ValueError(
            f"<|endoftext|> is {vocabulary.end} in its tokenizer, {config.eos_token_id} in its config"
        )
    if strange := set().union(*vocabulary.tokens[: vocabulary.end]).difference(BYTES):
        raise ValueError(f"its tokens contain {min(strange)!r}, so they are not byte-level BPE")


def names(vocabulary: dict[str, int]) -> list[str]:
    """The tokens of a tokenizer by id; "" for an unused id."""
    by_id = {id_: token for token, id_ in vocabulary.items()}
    return [by_id.get(id_, "") for id_ in range(max(by_id) + 1)]


def fuse(
    source: dict[str, Tensor],
    extractor: "WhisperFeatureExtractor",
    dims: Dimensions,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """The packed tensors, from transformers' own."""
    tensors = {
        "audio.window": torch.hann_window(N_FFT),
        "audio.filters": torch.from_numpy(extractor.mel_filters.T).float(),  # [mel bins, FFT bins]
    }
    for name, shape in layout(dims).items():
        if name.startswith("audio."):
            continue
        half, _, rest = name.partition(".")
        layer, _, rest = rest.partition(".") if rest[0].isdigit() else ("", "", rest)
        part, _, kind = rest.rpartition(".") if rest.endswith(("weight", "bias")) else (rest, "", "weight")
        prefix = f"model.{half}.layers.{layer}." if layer else f"model.{half}."
        keys = [f"{prefix}{place}.{kind}" for place in PLACES.get(part, [part])]
        # The key projection has no bias of its own.
        found = [
            source.get(key, torch.zeros(dims.d_model)) if kind == "bias" else source[key] for key in keys
        ]
        tensors[name] = torch.cat([tensor.to(dtype) for tensor in found]).reshape(shape)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def weights(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that from_pretrained read: the single file of weights, or else its shards."""
    names = ["model.safetensors"]
    if not (folder / names[0]).exists():
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        names = sorted(set(index["weight_map"].values()))
    digests = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def hub_origin(folder: Path) -> dict[str, str | None]:
    """Hub id and revision of a folder models--<owner>--<name>/snapshots/<revision>, as in a hub cache."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return {"hub_id": None, "revision": None}
    return {"hub_id": repository.removeprefix("models--").replace("--", "/"), "revision": folder.name}
