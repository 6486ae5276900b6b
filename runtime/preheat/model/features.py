"""Log-mel, as openai/whisper and transformers' WhisperFeatureExtractor compute it."""

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor

from preheat.audio.constants import HOP_LENGTH

BLOCK = 6000  # frames transformed at a time, one minute: hours of audio must fit in memory


def log_mel(samples: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """[…, samples] at 16 kHz → […, mel bins, samples // 160] log-mel, on the device of `filters`.

    A frame is 10 ms. `window` [400] and `filters` [mel bins, 201] are those of the state file. Values are
    clamped to 80 dB below the loudest point of each recording. Padding is left to the caller:
    WhisperFeatureExtractor zero-pads a window to 30 s, openai/whisper appends 30 s of zeros to a recording.
    """
    frames = samples.shape[-1] // HOP_LENGTH
    half = len(window) // 2
    # The padding of torch.stft(center=True), which cannot be used on blocks.
    padded = F.pad(samples.to(filters.device).reshape(-1, samples.shape[-1]), (half, half), mode="reflect")
    parts = []
    for begin in range(0, frames, BLOCK):
        end = min(begin + BLOCK, frames)
        block = padded[:, begin * HOP_LENGTH : (end - 1) * HOP_LENGTH + len(window)]
        spectrum = torch.stft(
            block, len(window), HOP_LENGTH, window=window, center=False, return_complex=True
        )
        parts.append(filters @ spectrum.abs().square())
    mel = torch.cat(parts, dim=-1).clamp(min=1e-10).log10()
    mel = (mel.maximum(mel.amax(dim=(-2, -1), keepdim=True) - 8) + 4) / 4
    return mel.reshape(*samples.shape[:-1], *mel.shape[1:])
