"""Which tokens may come next: openai/whisper's logit filters, for all rows of a batch at once.

Nothing here waits for the device or reads a value on the host, so that a decoding step, including its
filters, can be captured as a CUDA graph. So what the filters need to know about the tokens so far is kept in
tensors (`History`), which every step updates in place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from preheat.model.vocabulary import Vocabulary

NEVER = float("-inf")


@dataclass
class History:
    """What the timestamp rules need to know about the tokens of N rows so far."""

    last: Tensor  # bool [N, 1]: the last token is a timestamp
    before: Tensor  # bool [N, 1]: the token before it is a timestamp, too, or does not exist
    latest: Tensor  # int64 [N, 1]: the newest timestamp token, 0 if there is none

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> "History":
        """Of rows without tokens."""
        flag = torch.zeros(rows, 1, dtype=torch.bool, device=device)
        return cls(flag, flag.clone(), torch.zeros(rows, 1, dtype=torch.long, device=device))

    def clear(self) -> None:
        """Reset for new windows: before the first token, the last token counts as a timestamp."""
        self.last.fill_(True)  # `add` moves it to `before`
        self.latest.zero_()

    def add(self, tokens: Tensor, first_timestamp: int) -> None:
        """Note the next token of each row, int64 [N, 1]."""
        stamped = tokens >= first_timestamp
        self.before.copy_(self.last)
        self.last.copy_(stamped)
        self.latest.copy_(torch.where(stamped, tokens, self.latest))


class LogitFilters:
    """The filters for one vocabulary; if `timestamps` is false, without the timestamp rules."""

    def __init__(self, vocabulary: Vocabulary, size: int, device: torch.device, *, timestamps: bool) -> None:
        """`size`: how many logits there are."""
        self.timestamps = timestamps
        self.first, self.end = vocabulary.first_timestamp, vocabulary.end
        self.ids = torch.arange(self.first, size, device=device)
        # Masks to add, 0 or -inf for each token: of tokens never allowed, and of those not allowed first.
        self.always = torch.zeros(size, device=device)
        self.always[vocabulary.suppressed] = NEVER
        self.begin = self.always.clone()
        self.begin[vocabulary.begin_suppressed] = NEVER
        if timestamps:  # a timestamp comes first, and not a late one
            self.begin[: self.first] = NEVER
            if vocabulary.max_initial_timestamp is not None:
                self.begin[self.first + vocabulary.max_initial_timestamp + 1 :] = NEVER

    def first_step(self, logits: Tensor) -> Tensor:
        """`logits` [N, vocab_size] for the first token of each row, with -inf for what is forbidden."""
        return logits + self.begin

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        """`logits` [N, vocab_size] for any later token, with -inf for what is forbidden."""
        logits = logits + self.always
        if not self.timestamps:
            return logits
        first = self.first
        opened, closed = history.last & history.before, history.last & ~history.before
        logits[:, first:].masked_fill_(opened, NEVER)  # after the start of a segment: text
        logits[:, : self.end].masked_fill_(closed, NEVER)  # after its end: the next one's start, or the end
        # Time does not go back, and only the start of a segment may equal the latest timestamp.
        earliest = torch.where(history.latest > 0, history.latest + (~closed).long(), 0)
        logits[:, first:].masked_fill_(self.ids < earliest, NEVER)
        # Only timestamps, if all of them together are more probable than any single text token.
        stamp = logits[:, first:].logsumexp(dim=-1) > logits[:, :first].amax(dim=-1)
        logits[:, :first].masked_fill_(stamp[:, None], NEVER)
        return logits
