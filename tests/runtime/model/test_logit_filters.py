"""logit_filters.py: the timestamp rules, as decoding.py applies them, compared with openai/whisper's."""

import numpy as np
import pytest
import torch
import whisper
from torch import Tensor

from preheat.model.logit_filters import History, LogitFilters
from preheat.model.vocabulary import Vocabulary
from tests.runtime import reference
from tests.runtime.vocabularies import encode, metadata

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def facts() -> dict[str, str]:
    return metadata()


@pytest.fixture
def vocabulary(facts: dict[str, str]) -> Vocabulary:
    """A fresh one, to change."""
    return Vocabulary(facts)


def size(vocabulary: Vocabulary) -> int:
    """How many logits there are; the last one is <|30.00|>."""
    return vocabulary.first_timestamp + 1501


def filtered(vocabulary: Vocabulary, rows: Tensor, logits: Tensor, *, timestamps: bool = True) -> Tensor:
    """`logits` for the token after `rows` [N, tokens so far], with -inf for what is forbidden."""
    filters = LogitFilters(vocabulary, size(vocabulary), CPU, timestamps=timestamps)
    history = History.empty(len(rows), CPU)
    history.add(torch.full((len(rows), 1), vocabulary.first_timestamp + 7), vocabulary.first_timestamp)
    history.clear()  # as after an earlier batch
    before = logits.clone()
    for tokens in rows.T:
        history.add(tokens[:, None], vocabulary.first_timestamp)
    found = filters(logits, history) if rows.shape[1] else filters.first_step(logits)
    assert torch.equal(logits, before)
    return found


def permitted(vocabulary: Vocabulary, *parts: float | str, timestamps: bool = True) -> set[int]:
    """The tokens that may follow these, with logits that make the end more probable than all timestamps."""
    logits = torch.zeros(2, size(vocabulary))
    logits[:, vocabulary.end] = 20.0
    so_far = torch.tensor([encode(vocabulary, parts)] * 2, dtype=torch.long)
    rows = filtered(vocabulary, so_far, logits, timestamps=timestamps)
    assert torch.equal(rows[0], rows[1])
    return set(rows[0].isfinite().nonzero().flatten().tolist())


def stamps(vocabulary: Vocabulary, first: float, last: float = 30.0) -> set[int]:
    begin, end = encode(vocabulary, [first, last])
    return set(range(begin, end + 1))


def text_of(vocabulary: Vocabulary) -> set[int]:
    """All tokens that are no timestamps and may be said."""
    return set(range(vocabulary.first_timestamp)).difference(vocabulary.suppressed)


def test_a_timestamp_comes_first_and_not_a_late_one(vocabulary: Vocabulary) -> None:
    vocabulary.max_initial_timestamp = None
    assert permitted(vocabulary) == stamps(vocabulary, 0.0)
    vocabulary.max_initial_timestamp = 50
    assert permitted(vocabulary) == stamps(vocabulary, 0.0, 1.0)
    vocabulary.begin_suppressed = encode(vocabulary, [0.0])
    assert permitted(vocabulary) == stamps(vocabulary, 0.02, 1.0)


def test_the_grammar_of_timestamps(vocabulary: Vocabulary) -> None:
    text = text_of(vocabulary)
    special = {token for token in text if token >= vocabulary.end}
    # After a start: text, or the end of all.
    assert permitted(vocabulary, 0.5) == text
    assert permitted(vocabulary, 0.0) == text
    # After text: more of it, or a timestamp that is later than the start.
    assert permitted(vocabulary, 0.5, "alpha") == text | stamps(vocabulary, 0.52)
    assert permitted(vocabulary, 0.0, "alpha") == text | stamps(vocabulary, 0.02)
    # After an end: the next start, not before it, or the end of all.
    assert permitted(vocabulary, 0.5, "alpha", 2.0) == special | stamps(vocabulary, 2.0)
    assert permitted(vocabulary, 0.5, "alpha", 30.0) == special | stamps(vocabulary, 30.0)
    assert permitted(vocabulary, 0.5, "alpha", 2.0, 3.0) == text
    assert permitted(vocabulary, 0.5, "alpha", 2.0, 2.0) == text
    assert permitted(vocabulary, 0.5, "alpha", 2.0, 3.0, "nine") == text | stamps(vocabulary, 3.02)
    assert permitted(vocabulary, 0.5, "alpha nine alpha", 2.0) == special | stamps(vocabulary, 2.0)


def test_timestamps_win_together(vocabulary: Vocabulary) -> None:
    """No single one is as probable as the best word, but all together are; not in the second row."""
    (alpha,) = encode(vocabulary, ["alpha"])
    logits = torch.zeros(2, size(vocabulary))
    logits[:, alpha] = torch.tensor([3.0, 8.0])  # e^3 = 20 < 1450 < e^8
    found = filtered(vocabulary, torch.tensor([encode(vocabulary, [1.0, "nine"])] * 2), logits)
    assert not found[0, : vocabulary.first_timestamp].isfinite().any()
    assert found[1, alpha] == 8.0
    assert set(found[1].isfinite().nonzero().flatten().tolist()) == text_of(vocabulary) | stamps(
        vocabulary, 1.02
    )


def test_rows_do_not_mix(vocabulary: Vocabulary) -> None:
    """Rows in every state in one batch, each filtered as if alone."""
    texts = [
        (0.5, "alpha nine", 2.0, 2.0, "alpha"),
        (0.0, "alpha", 2.0, 7.5, "nine alpha"),
        (1.0, "nine", "nine", "nine", 9.0, 9.5),
        (0.0, "nine", "alpha", "nine", "alpha", 30.0),
        (0.2, "nine", 1.0, 1.0, "nine", 4.0),
    ]
    rows = [encode(vocabulary, parts) for parts in texts]
    assert {len(row) for row in rows} == {6}
    generator = torch.Generator().manual_seed(0)
    for length in range(7):
        so_far = torch.tensor(rows)[:, :length]
        logits = torch.randn(len(rows), size(vocabulary), generator=generator)
        together = filtered(vocabulary, so_far, logits)
        for i in range(len(rows)):
            alone = filtered(vocabulary, so_far[i : i + 1], logits[i : i + 1])
            assert torch.equal(together[i], alone[0])


def test_what_is_never_said(vocabulary: Vocabulary) -> None:
    """Some tokens never, some not at the beginning; with and without timestamps."""
    never = {vocabulary.start, vocabulary.no_timestamps, *vocabulary.tasks.values()}
    assert never <= set(vocabulary.suppressed)
    for timestamps in (True, False):
        assert not never & permitted(vocabulary, timestamps=timestamps)
        assert not never & permitted(vocabulary, 0.0, "alpha", timestamps=timestamps)


def test_without_timestamps(vocabulary: Vocabulary) -> None:
    """Only the suppressed tokens are forbidden, and a blank beginning."""
    said = set(range(size(vocabulary))).difference(vocabulary.suppressed)
    assert permitted(vocabulary, timestamps=False) == said.difference(vocabulary.begin_suppressed)
    assert vocabulary.begin_suppressed
    some: list[list[float | str]] = [["alpha"], ["alpha", "nine"], [1.0], [1.0, "alpha", 2.0]]
    for parts in some:
        assert permitted(vocabulary, *parts, timestamps=False) == said


def theirs(vocabulary: Vocabulary, rows: Tensor, logits: Tensor, latest: int | None) -> Tensor:
    """What openai/whisper's filters make of the logits."""
    tokenizer = whisper.tokenizer.Tokenizer(reference.encoding(vocabulary), len(vocabulary.languages))
    found = logits.clone()
    found[:, vocabulary.suppressed] = -torch.inf
    if not rows.shape[1]:
        found[:, vocabulary.begin_suppressed] = -torch.inf
    prompt = torch.tensor([[vocabulary.start, 423, 524]] * len(rows))
    rules = whisper.decoding.ApplyTimestampRules(tokenizer, prompt.shape[1], latest)
    rules.apply(found, torch.cat((prompt, rows), dim=1))
    return found


@pytest.mark.parametrize("latest", [None, 20])
def test_a_random_walk_is_that_of_openai_whisper(latest: int | None, vocabulary: Vocabulary) -> None:
    """The same tokens are forbidden after any permitted sequence, in a batch of independent rows."""
    vocabulary.max_initial_timestamp = latest
    generator = torch.Generator().manual_seed(1)
    choose = np.random.default_rng(1)
    rows = torch.empty((24, 0), dtype=torch.long)
    kinds = set()
    for _ in range(40):
        logits = torch.randn(len(rows), size(vocabulary), generator=generator)
        # Text and all timestamps together are about equally probable: either may win. Times pass slowly.
        loudness = torch.tensor(choose.choice([-3.0, 0.0, 5.5, 9.0], (len(rows), 1)), dtype=torch.float32)
        logits[:, : vocabulary.end] += loudness
        found = filtered(vocabulary, rows, logits)
        assert torch.equal(found, theirs(vocabulary, rows, logits, latest))
        later = torch.arange(size(vocabulary)) > vocabulary.first_timestamp
        chances = (found - later * torch.arange(size(vocabulary)) * 0.02).softmax(dim=-1)
        chosen = chances.multinomial(1, generator=generator)
        kinds |= set((chosen >= vocabulary.first_timestamp).flatten().tolist())
        rows = torch.cat((rows, chosen), dim=1)
    assert kinds == {True, False}
