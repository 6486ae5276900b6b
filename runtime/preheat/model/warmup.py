"""Warms up the GPU's libraries with a one-layer network while the weights are read.

GPU libraries select and load their kernels on the first call. Later calls benefit even with other shapes.
"""

from dataclasses import replace

import torch

from preheat.audio.constants import ENCODER_STRIDE, HOP_LENGTH
from preheat.model.decoding import CHECK_EVERY, Batch, Kind, capacity
from preheat.model.features import log_mel
from preheat.model.graph import Graphs
from preheat.model.layout import Dimensions, layout
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper

STEPS = CHECK_EVERY  # tokens after the first: enough to include the check whether all rows have ended


@torch.inference_mode()
def warm_up(dims: Dimensions, dtype: torch.dtype, device: torch.device, vocabulary: Vocabulary) -> None:
    """Decode a few tokens of one silent window, with weights of 0; returns when the device is done."""
    small = replace(dims, encoder_layers=1, decoder_layers=1)
    tensors = {
        name: torch.zeros(shape, dtype=torch.float32 if name.startswith("audio.") else dtype, device=device)
        for name, shape in layout(small).items()
    }
    network = Whisper(tensors, small)
    silence = torch.zeros(1, dims.max_source_positions * ENCODER_STRIDE * HOP_LENGTH)
    features = network.encode(log_mel(silence, network.window, network.filters))
    prompt = vocabulary.prompt(next(iter(vocabulary.languages), "en"), "transcribe", timestamps=True)
    batch = Batch(network, vocabulary, Kind(1, capacity(network, len(prompt)), True), Graphs(device, None))
    batch.step.graphs.working = False  # a captured graph would be useless: it belongs to one batch
    batch.begin(features, prompt)
    batch.limit = 1 + STEPS
    batch.finish()
