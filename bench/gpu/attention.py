"""Attention as the network calls it, with each of torch's SDPA backends: speed, error, effect of masks.

Shapes and strides are those of preheat/model/whisper.py: queries are views of a projection, the decoder's
keys and values are in its cache. Errors are differences from float64.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.gpu.place import Place, Row

WAYS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
HEAD = 64  # width of a head
RIGHT = 0.01  # limit of the absolute error, for 16-bit types
NEW_ROWS = range(100, 106)  # numbers of rows that nothing has used before


@dataclass(frozen=True)
class Case:
    """One kind of attention call."""

    name: str
    rows: int
    heads: int
    queries: int
    keys: int
    mask: str = ""  # "": none; "row": as in a captured step; "causal": as after a prompt

    @property
    def flops(self) -> int:
        """Floating-point operations of both matrix products."""
        return 4 * self.rows * self.heads * self.queries * self.keys * HEAD

    def tensors(self, place: Place) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Query, key, value [rows, heads, T, HEAD] and the mask."""
        random = {"device": place.device, "dtype": place.dtype}
        if self.queries == self.keys:  # self-attention: all three from one projection
            projected = torch.randn(self.rows, self.keys, 3, self.heads, HEAD, **random)
            query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            query = torch.randn(self.rows, self.queries, self.heads, HEAD, **random).transpose(1, 2)
            key, value = torch.randn(2, self.rows, self.heads, self.keys, HEAD, **random)
        at = torch.arange(self.keys, device=place.device)
        if self.mask == "causal":
            return query, key, value, at <= at[-self.queries :, None]
        return query, key, value, mask(place, at > self.keys // 2, "least") if self.mask else None


def cases(place: Place) -> list[Case]:
    """The calls that occur in an hour of speech with the large models."""
    if not place.gpu:
        return [
            Case("encoder", 1, 2, 128, 128),
            Case("cross", 2, 2, 1, 128),
            Case("self", 2, 2, 1, 64, "row"),
            Case("prompt", 2, 2, 3, 3, "causal"),
        ]
    return [
        Case("encoder", 16, 20, 1500, 1500),
        Case("cross", 8, 20, 1, 1500),
        Case("cross", 160, 20, 1, 1500),
        Case("self", 8, 20, 1, 256, "row"),
        Case("self", 160, 20, 1, 256, "row"),
        Case("prompt", 160, 20, 3, 3, "causal"),
        Case("prompt", 1, 20, 227, 227, "causal"),
    ]


def mask(place: Place, hidden: Tensor, fill: str) -> Tensor:
    """An additive mask, [1, keys]."""
    value = float("-inf") if fill == "-inf" else torch.finfo(place.dtype).min
    return torch.zeros(1, len(hidden), device=place.device, dtype=place.dtype).masked_fill(hidden, value)


def run(place: Place) -> Iterator[Row]:
    """Speed and error first, then masks, then the cost of new shapes."""
    for case in cases(place):
        yield from compare(place, case)
    yield from masks(place)
    yield from new_shapes(place)


def compare(place: Place, case: Case) -> Iterator[Row]:
    """Every backend, and which one torch chooses by itself."""
    query, key, value, hidden = case.tensors(place)
    wanted = exact(query[:1], key[:1], value[:1], hidden)
    about = {"case": case.name, "rows": case.rows, "queries": case.queries, "keys": case.keys}
    times = []
    for name, way in WAYS.items():
        row = {"table": "ways", "way": name} | about
        found: list[Tensor] = []  # result of the last call

        def work(kept: list[Tensor] = found) -> None:
            kept[:] = [F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)]

        with sdpa_kernel(way):
            try:
                first, steady = place.first_and_steady(work, place.pick(20, 2))
            except RuntimeError as refusal:
                yield row | {"refused": brief(refusal)}
                continue
        error = float((found[0][:1].double() - wanted).abs().max())
        row |= {"first, ms": 1e3 * first, "steady, ms": 1e3 * steady}
        yield row | {
            "GB/s": 2 * key.nbytes / steady / 1e9,
            "TFLOP/s": case.flops / steady / 1e12,
            "error": error,
        }
        times.append(f"{name} {1e3 * steady:.3g} ms")
        if not error < RIGHT and name != "cudnn":  # cuDNN is not used
            yield {"problem": f"{case.name} of {case.rows} by {name} is wrong by {error:.3g}"}
    names = {way.value: name for name, way in WAYS.items()}
    chosen = []
    for on in (True, False):
        with place.cudnn(on):
            chosen.append(names[torch._fused_sdp_choice(query, key, value, attn_mask=hidden)])
    taken = f"torch takes {chosen[0]}, without cuDNN {chosen[1]}"
    yield {"finding": f"{case.name}, {case.rows} rows, {case.queries} queries: {', '.join(times)}; {taken}"}


def brief(refusal: RuntimeError) -> str:
    """Why a backend refuses a call: the start of the message, as the rest mostly lists other backends."""
    return str(refusal).partition("\n")[0][:60]


def exact(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
    """Attention in float64, as the reference."""
    scores = query.double() @ key.double().mT * HEAD**-0.5
    if hidden is not None:
        scores = scores.masked_fill(~hidden, -torch.inf) if hidden.dtype == torch.bool else scores + hidden
    found: Tensor = scores.softmax(dim=-1) @ value.double()
    return found


def masks(place: Place) -> Iterator[Row]:
    """Keys masked by -inf or by the lowest finite number.

    If all but the first are masked, so are whole splits of a kernel that splits the keys.
    """
    rows, heads, keys = place.pick((8, 20, 448), (2, 2, 64))
    query, key, value, _ = Case("self", rows, heads, 1, keys).tensors(place)
    for name, way in WAYS.items():
        for at in (0, keys // 2):
            hidden = torch.arange(keys, device=place.device) > at
            wanted = exact(query, key[:, :, : at + 1], value[:, :, : at + 1], None)
            for fill in ("-inf", "least", "-inf, float32"):
                added = mask(place, hidden, fill.partition(",")[0])
                added = added.float() if "float32" in fill else added
                row = {"table": "masks", "way": name, "filled with": fill, "keys seen": at + 1}
                with sdpa_kernel(way):
                    try:
                        found = F.scaled_dot_product_attention(query, key, value, attn_mask=added)
                    except RuntimeError as refusal:
                        yield row | {"refused": brief(refusal)}
                        continue
                wrong = float((found.double() - wanted).abs().nan_to_num(nan=torch.inf).max())
                yield row | {"error": str(wrong) if wrong == torch.inf else wrong}
                if fill == "least" and name != "cudnn" and not wrong < RIGHT:
                    yield {"problem": f"the mask of a step is wrong by {wrong:.3g} with {name}"}


def new_shapes(place: Place) -> Iterator[Row]:
    """The first call with a new number of rows, which every batch and every retry may bring."""
    heads, keys = place.pick((20, 1500), (2, 64))
    for on in (True, False):
        times = []
        for rows in place.pick(NEW_ROWS, range(3, 5)):
            query, key, value, _ = Case("cross", rows, heads, 1, keys).tensors(place)
            times.append(place.seconds(attention(query, key, value, place, on)))
        worst, middle = 1e3 * max(times), 1e3 * sorted(times)[len(times) // 2]
        row = {"table": "first call of a new number of rows, ms", "cuDNN": "on" if on else "off"}
        yield row | {"median": middle, "greatest": worst, "finding": f"new rows: {middle:.2f} ms, cuDNN {on}"}


def attention(query: Tensor, key: Tensor, value: Tensor, place: Place, on: bool) -> Callable[[], Tensor]:
    """An attention call with torch's own choice of backend; cuDNN is allowed if `on`."""

    def work() -> Tensor:
        with place.cudnn(on):
            return F.scaled_dot_product_attention(query, key, value)

    return work
