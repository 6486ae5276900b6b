"""From cross-attention scores to where each token begins: dynamic time warping, as in openai/whisper.

Unlike there, all windows of a batch are done at once: one wait for the GPU and one Python loop for all.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMOOTHED = 7  # positions under the median filter
# Compare-exchange steps that put the median of seven values in the middle; far faster than a sort.
# N. Devillard, "Fast median search: an ANSI C implementation" (1998), after J. L. Smith (1996).
MEDIAN = (
    (0, 5),
    (0, 3),
    (1, 6),
    (2, 4),
    (0, 1),
    (3, 5),
    (2, 6),
    (2, 3),
    (3, 6),
    (4, 5),
    (1, 4),
    (1, 3),
    (3, 4),
)


def attention(heads: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
    """Scores before softmax → attention: normalised, smoothed, the mean of all heads.

    `heads`: the scores of each head, [B, tokens, positions]; `sizes`: the number of tokens and positions of
    each of the B windows. Returns [B, most tokens, most positions]; values beyond a window's own size are
    meaningless.
    """
    tokens, positions = torch.tensor(sizes, device=heads[0].device).T[:, :, None, None]
    most_tokens, most_positions = (max(counts) for counts in zip(*sizes, strict=True))
    said = torch.arange(most_tokens, device=tokens.device)[:, None] < tokens
    heard = torch.arange(most_positions, device=tokens.device) < positions
    total = heads[0].new_zeros(len(sizes), most_tokens, most_positions)
    for matches in heads:  # one at a time: smoothing a head takes more memory than the scores of all heads
        weights = matches[:, :most_tokens, :most_positions].masked_fill(~heard, -torch.inf).softmax(dim=-1)
        mean = (weights * said).sum(dim=1, keepdim=True) / tokens
        deviation = ((weights - mean).square() * said).sum(dim=1, keepdim=True).div(tokens).sqrt()
        total += smooth((weights - mean) / deviation, positions)
    return total / len(heads)


def smooth(weights: Tensor, positions: Tensor) -> Tensor:
    """Apply the median filter to [B, tokens, positions], with reflection at both ends of each window.

    `positions` [B, 1, 1]: the number of positions of each window; one too short to reflect is not filtered.
    """
    size, margin, last = weights.shape[-1], SMOOTHED // 2, positions - 1
    place = torch.arange(-margin, size + margin, device=weights.device).abs()
    place = torch.where(place > last, 2 * last - place, place).clamp(0, size - 1)
    # NaN counts as the greatest value, as in a sort.
    numbers = weights.masked_fill(weights.isnan(), torch.inf).gather(
        2, place.expand(-1, weights.shape[1], -1)
    )
    under = [numbers[..., i : i + size] for i in range(SMOOTHED)]
    for low, high in MEDIAN:
        under[low], under[high] = under[low].minimum(under[high]), under[low].maximum(under[high])
    median = under[margin].masked_fill(under[margin].isinf(), torch.nan)
    return torch.where(last < margin, weights, median)


def token_starts(costs: NDArray[np.float64], sizes: list[tuple[int, int]]) -> list[NDArray[np.intp]]:
    """The position where each token of B windows begins: the cheapest monotonic path through their costs.

    `costs` [B, tokens, positions]; `sizes`: the number of tokens and positions of each window. Dynamic time
    warping by anti-diagonals: the cells of one depend only on the two before it. The padding of a window
    lies after its own cells, so its paths never reach it.
    """
    rows, tokens, positions = costs.shape
    diagonals = tokens + positions + 1
    # [diagonal, window, token], diagonals and tokens counted from 1. The rest stays infinite: unreachable.
    totals = np.full((diagonals, rows, tokens + 1), np.inf, np.float32)
    totals[0, :, 0] = 0
    for i in range(tokens):
        totals[i + 2 : i + 2 + positions, :, i + 1] = costs[:, i].T
    by_both, by_token = np.zeros(
        (2, *totals.shape), bool
    )  # the step into each cell: to the next token and position, or to the next token; else to the position
    for diagonal in range(2, diagonals):
        both, token = totals[diagonal - 2, :, :-1], totals[diagonal - 1, :, :-1]
        position = totals[diagonal - 1, :, 1:]
        np.less(both, np.minimum(token, position), out=by_both[diagonal, :, 1:])
        np.less(token, np.minimum(both, position), out=by_token[diagonal, :, 1:])
        cheapest = np.where(by_token[diagonal, :, 1:], token, position)
        totals[diagonal, :, 1:] += np.where(by_both[diagonal, :, 1:], both, cheapest)
    new_token, new_position = by_both | by_token, ~by_token
    return [path(new_token[:, row], new_position[:, row], *size) for row, size in enumerate(sizes)]


def path(
    new_token: NDArray[np.bool_], new_position: NDArray[np.bool_], tokens: int, positions: int
) -> NDArray[np.intp]:
    """Where each token begins: follow the best steps back from the end, each [diagonals, tokens]."""
    starts = np.zeros(tokens, np.intp)
    i, j = tokens, positions
    while i > 0 and j > 0:
        starts[i - 1] = j - 1
        diagonal = i + j
        i, j = i - new_token[diagonal, i], j - new_position[diagonal, i]
    return starts
