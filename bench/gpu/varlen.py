"""Flash attention over rows of different lengths, as needed for continuous batching.

It checks what torch does not document: that a row of length 0 costs nothing, that lengths may change between
replays of a graph, and that rows may share keys. On the CPU, which lacks the operation, a loop replaces it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor

from bench.gpu.attention import HEAD, RIGHT
from bench.gpu.place import Place, Row

PAGE = 1536  # keys allocated for each row, of which HEARD are used
HEARD = 1500


@dataclass
class Rows:
    """Rows of one query each, whose keys are `lengths` entries from `begins` on."""

    query: Tensor  # [rows, heads, HEAD]
    keys: Tensor  # [keys of all rows, heads, HEAD]
    values: Tensor
    begins: Tensor  # [rows + 1] int32; the last one is the end
    lengths: Tensor  # [rows] int32

    @classmethod
    def random(cls, place: Place, rows: int, heads: int) -> "Rows":
        """Random rows, each with its own page of keys."""
        of = {"device": place.device, "dtype": place.dtype}
        begins = torch.arange(rows + 1, dtype=torch.int32, device=place.device) * PAGE
        keys, values = torch.randn(2, rows * PAGE, heads, HEAD, **of)
        return cls(torch.randn(rows, heads, HEAD, **of), keys, values, begins, begins[1:].clone())

    def few(self) -> "Rows":
        """The first four rows, in float64."""
        part = slice(0, 4)
        near = (self.keys[: 4 * PAGE].double(), self.values[: 4 * PAGE].double())
        return Rows(self.query[part].double(), *near, self.begins, self.lengths[part])


@torch.inference_mode()
def run(place: Place) -> Iterator[Row]:
    """Check that it is correct, fast, and works in a CUDA graph."""
    yield from place.absent("one query a row", "aten._flash_attention_forward")
    for rows in place.pick((8, 160), (2, 4)):
        yield from check(place, Rows.random(place, rows, place.pick(20, 2)))


def check(place: Place, rows: Rows) -> Iterator[Row]:
    """Check one number of rows, with begins and lengths that change between replays of one graph."""
    count = len(rows.query)
    found = [torch.empty(0)]
    rows.lengths.fill_(HEARD)

    def work() -> None:
        found[0] = flash(rows) if place.gpu else loop(rows)

    replay = place.captured(work)
    own = rows.begins.clone()
    settings = {
        "all heard": (own, [HEARD] * count),
        "half ended": (own, [HEARD, 0] * (count // 2)),
        "all ended": (own, [0] * count),
        "pairs share keys": (own // PAGE // 2 * PAGE, [HEARD] * count),
        "all different": (own, [1 + 7 * i % HEARD for i in range(count)]),
    }
    findings = []
    for name, (begins, lengths) in settings.items():
        rows.begins.copy_(begins)
        rows.lengths.copy_(torch.tensor(lengths, dtype=torch.int32))
        steady = place.first_and_steady(replay, place.pick(20, 1))[1]
        exact = loop(rows.few())
        error = float((found[0][: len(exact)].double() - exact).abs().nan_to_num(nan=torch.inf).max())
        row = {"table": "one query a row", "setting": name, "rows": count, "ms": 1e3 * steady}
        read = 2 * sum(lengths) * rows.query[0].nbytes
        yield row | {"GB/s": read / steady / 1e9, "error": min(error, 1e9)}
        findings.append(f"{name} {1e3 * steady:.3g} ms")
        if not error < RIGHT:
            yield {"problem": f"{count} rows, {name}: wrong by {error:.3g}"}
    yield {"finding": f"{count} rows: {', '.join(findings)}"}


def flash(rows: Rows) -> Tensor:
    """Attention for all rows in one call."""
    queries = torch.arange(len(rows.query) + 1, dtype=torch.int32, device=rows.query.device)
    found: Tensor = torch.ops.aten._flash_attention_forward(
        *(rows.query, rows.keys, rows.values, queries, rows.begins),
        *(1, PAGE, 0.0, False, False),  # max_q, max_k, dropout_p, is_causal, return_debug_mask
        seqused_k=rows.lengths,
    )[0]
    return found


def loop(rows: Rows) -> Tensor:
    """The same, row by row."""
    found = torch.zeros_like(rows.query)
    for row, (begin, length) in enumerate(zip(rows.begins.tolist(), rows.lengths.tolist(), strict=False)):
        keys, values = (x[begin : begin + length].transpose(0, 1)[None] for x in (rows.keys, rows.values))
        if length:
            query = rows.query[row, None, :, None]
            found[row] = F.scaled_dot_product_attention(query, keys, values)[0, :, 0]
    return found
