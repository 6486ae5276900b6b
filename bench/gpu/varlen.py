"""Flash attention over rows of different lengths, as an engine of slots would use it.

That a row of length 0 costs nothing, that lengths may change between replays of a graph, and that rows may
share keys is nowhere promised. On the CPU, which has no such operation, a loop stands for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor

from bench.gpu.attention import HEAD, RIGHT
from bench.gpu.place import Place, Row

PAGE = 1536  # keys in memory for each row, of which HEARD are used
HEARD = 1500


@dataclass
class Rows:
    """One query of each, and where its keys are: from `begins` on, `lengths` of them."""

    query: Tensor  # [rows, heads, HEAD]
    keys: Tensor  # [all, heads, HEAD]
    values: Tensor
    begins: Tensor  # [rows + 1] int32; the last one belongs to nobody
    lengths: Tensor  # [rows] int32

    @classmethod
    def random(cls, place: Place, rows: int, heads: int) -> "Rows":
        """Each with a page of its own."""
        of = {"device": place.device, "dtype": place.dtype}
        begins = torch.arange(rows + 1, dtype=torch.int32, device=place.device) * PAGE
        keys, values = torch.randn(2, rows * PAGE, heads, HEAD, **of)
        return cls(torch.randn(rows, heads, HEAD, **of), keys, values, begins, begins[1:].clone())

    def few(self) -> "Rows":
        """The first ones, in float64."""
        part = slice(0, 4)
        near = (self.keys[: 4 * PAGE].double(), self.values[: 4 * PAGE].double())
        return Rows(self.query[part].double(), *near, self.begins, self.lengths[part])


@torch.inference_mode()
def run(place: Place) -> Iterator[Row]:
    """Right, fast, captured."""
    yield from place.absent("one query a row", "aten._flash_attention_forward")
    for rows in place.pick((8, 160), (2, 4)):
        yield from check(place, Rows.random(place, rows, place.pick(20, 2)))


def check(place: Place, rows: Rows) -> Iterator[Row]:
    """One number of rows; what it is asked for changes between the replays of one graph."""
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
    told = []
    for name, (begins, lengths) in settings.items():
        rows.begins.copy_(begins)
        rows.lengths.copy_(torch.tensor(lengths, dtype=torch.int32))
        steady = place.first_and_steady(replay, place.pick(20, 1))[1]
        exact = loop(rows.few())
        error = float((found[0][: len(exact)].double() - exact).abs().nan_to_num(nan=torch.inf).max())
        row = {"table": "one query a row", "setting": name, "rows": count, "ms": 1e3 * steady}
        read = 2 * sum(lengths) * rows.query[0].nbytes
        yield row | {"GB/s": read / steady / 1e9, "error": min(error, 1e9)}
        told.append(f"{name} {1e3 * steady:.3g} ms")
        if not error < RIGHT:
            yield {"problem": f"{count} rows, {name}: wrong by {error:.3g}"}
    yield {"told": f"{count} rows: {', '.join(told)}"}


def flash(rows: Rows) -> Tensor:
    """All rows in one call."""
    queries = torch.arange(len(rows.query) + 1, dtype=torch.int32, device=rows.query.device)
    found: Tensor = torch.ops.aten._flash_attention_forward(
        *(rows.query, rows.keys, rows.values, queries, rows.begins),
        *(1, PAGE, 0.0, False, False),  # most queries, most keys, dropout, causal, debugging
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
