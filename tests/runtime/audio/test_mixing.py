"""mixing.py: channels become one without losing what is in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Mixer, Samples, aligned
from preheat.storage import InputError
from tests.runtime.soundfiles import chirp

SOUND = chirp(3)
OTHER = np.random.default_rng(0).normal(0, 0.2, len(SOUND)).astype(np.float32)


def mixed(*channels: Samples) -> Samples:
    mixer = Mixer(SAMPLE_RATE, len(channels))
    return np.concatenate([mixer.mix(np.stack(channels, axis=1)), mixer.rest()])


def energy(samples: Samples) -> float:
    return float(np.square(samples).sum())


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [
        ([SOUND, SOUND], SOUND),
        ([SOUND, 0 * SOUND], SOUND / 2),
        ([SOUND, OTHER], (SOUND + OTHER) / 2),
        ([SOUND, -SOUND], SOUND),
        ([SOUND, -0.8 * SOUND], 0.9 * SOUND),
        ([0.8 * SOUND, -SOUND], -0.9 * SOUND),
        ([SOUND, -SOUND, OTHER, -OTHER], (SOUND + OTHER) / 2),
        ([SOUND, -SOUND, 0 * SOUND, 0 * SOUND, 0 * SOUND, 0 * SOUND], SOUND / 3),
    ],
    ids=["same", "one silent", "two voices", "upside down", "weaker", "stronger", "two pairs", "surround"],
)
def test_the_mean_is_taken_where_it_keeps_the_sound(channels: list[Samples], wanted: Samples) -> None:
    found = mixed(*channels)
    # The polarity of the mix does not matter.
    assert min(np.abs(found - wanted).max(), np.abs(found + wanted).max()) < 1e-3


def test_channels_that_begin_to_cancel_are_turned_then(monkeypatch: pytest.MonkeyPatch) -> None:
    half = len(SOUND) // 3
    found = mixed(SOUND, np.concatenate([SOUND[:half], -SOUND[half:]]))
    seconds = np.abs(found).reshape(3, -1).max(axis=1)
    assert (seconds > 0.3).all()


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_no_energy_is_lost(channels: int, seed: int) -> None:
    """The mix of the aligned channels has at least the energy of all channels together."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(200, 1))
    block = random.normal(size=(200, channels)) * random.uniform(0, 1) + common * random.choice(
        [-1, 0, 1], size=channels
    )
    signs = aligned(block.T @ block)
    assert set(np.abs(signs)) == {1.0}
    assert energy(block @ signs) >= energy(block) * (1 - 1e-6)


@pytest.mark.parametrize(
    ("rate", "channels", "cause"), [(1, 1, "1 Hz"), (16000, 0, "channels"), (8000, 65, "65 c")]
)
def test_what_no_recording_has_is_refused(rate: int, channels: int, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        Mixer(rate, channels)
