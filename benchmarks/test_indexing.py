"""Reading and writing at indices, copies between layouts, sorting and scans."""

from __future__ import annotations

import math

from calls import both, forward, integers, layer
from report import Group

GROUP = Group("indexing, sorting, copies", 3.0)

MILLION = (1_000_000,)
SQUARE = (1000, 1000)


def _mask(*shape: int):
    return lambda lib: lib.rand(*shape) > 0.5


def _shuffled(*shape: int):
    """Different numbers: equal ones come in any order from PyTorch's sort."""
    return lambda lib: lib.randperm(math.prod(shape)).float().view(*shape)


def _masked_write(lib):
    x, mask = lib.randn(MILLION), lib.rand(MILLION) > 0.5
    y = x.clone()

    def call():
        y[mask] = 1.0
        return y

    return call


def _write_rows(lib):
    y, rows = lib.zeros(100, 100), lib.randn(100, 100)

    def call():
        for i in range(100):
            y[i] = rows[i]
        return y

    return call


def _index_put(lib):
    y, at, values = lib.zeros(1000, 64), lib.randperm(1000)[:500], lib.randn(500, 64)

    def call():
        y[at] = values
        return y

    return call


def _scatter_add(lib, x, at):
    return lib.zeros(1000, 1000).scatter_add(1, at, x)


def _embed(lib, weight, at):
    return lib.nn.functional.embedding(at, weight)


def _tokens(lib):
    """Read-only inputs of the embedding layer: a batch of texts."""
    return lib.randint(0, 10_000, (32, 64))


CASES = {
    "embedding 32x64 of 10000x128": forward(_embed, (10_000, 128), _tokens),
    "embedding 32x64 of 10000x128, backward": both(_embed, (10_000, 128), _tokens),
    "embedding 768 of 65x128, backward": both(_embed, (65, 128), integers(65, 768)),
    "gather 1000x1000": forward(lambda lib, x, at: x.gather(1, at), SQUARE, integers(1000, *SQUARE)),
    "gather 1000x1000, backward": both(lambda lib, x, at: x.gather(1, at), SQUARE, integers(1000, *SQUARE)),
    "scatter_add 1000x1000": forward(_scatter_add, SQUARE, integers(1000, *SQUARE)),
    "scatter_add 1000x1000, backward": both(_scatter_add, SQUARE, integers(1000, *SQUARE)),
    "index_select 500 rows": forward(lambda lib, x, at: x.index_select(0, at), SQUARE, integers(1000, 500)),
    "index_select 500 columns": forward(
        lambda lib, x, at: x.index_select(1, at), SQUARE, integers(1000, 500)
    ),
    "x[rows] 500": forward(lambda lib, x, at: x[at], SQUARE, integers(1000, 500)),
    "x[rows] 500, backward": both(lambda lib, x, at: x[at], SQUARE, integers(1000, 500)),
    "x[rows, columns] 1e5": forward(
        lambda lib, x, i, j: x[i, j], SQUARE, integers(1000, 100_000), integers(1000, 100_000)
    ),
    "x[arange, labels] 128": forward(
        lambda lib, x, at: x[lib.arange(128), at], (128, 1000), integers(1000, 128)
    ),
    "x[mask] 1e6": forward(lambda lib, x, mask: x[mask], MILLION, _mask(*MILLION)),
    "x[mask] = 1, 1e6": _masked_write,
    "x[rows] = values, 500": _index_put,
    "masked_fill 1e6": forward(lambda lib, x, mask: x.masked_fill(mask, 0.0), MILLION, _mask(*MILLION)),
    "masked_fill 1e6, backward": both(
        lambda lib, x, mask: x.masked_fill(mask, 0.0), MILLION, _mask(*MILLION)
    ),
    "y[i] = row, 100 times": _write_rows,
    "x[:, 10:20], backward": both(lambda lib, x: x[:, 10:20], SQUARE),
    "one_hot 1000 of 100": forward(lambda lib, x: lib.nn.functional.one_hot(x, 100), integers(100, 1000)),
    "nonzero 1e6": forward(lambda lib, x: x.nonzero(), _mask(*MILLION)),
    "cat rows": forward(lambda lib, x, y: lib.cat((x, y)), SQUARE, SQUARE),
    "cat columns": forward(lambda lib, x, y: lib.cat((x, y), 1), SQUARE, SQUARE),
    "cat columns, backward": both(lambda lib, x, y: lib.cat((x, y), 1), SQUARE, SQUARE),
    "stack 50 of 16x32": forward(lambda lib, *xs: lib.stack(xs, 1), *[(16, 32)] * 50),
    "split in 10, backward": both(lambda lib, x: sum(x.split(100, 1)), SQUARE),
    "chunk qkv, contiguous": forward(
        lambda lib, x: [part.contiguous() for part in x.chunk(3, -1)], (12, 64, 384)
    ),
    "clone 1e6": forward(lambda lib, x: x.clone(), MILLION),
    "clone 1e7": forward(lambda lib, x: x.clone(), (10_000_000,)),
    "transposed copy 512": forward(lambda lib, x: x.t().contiguous(), (512, 512)),
    "transposed copy 2048": forward(lambda lib, x: x.t().contiguous(), (2048, 2048)),
    "copy of permuted 32x64x32x32": forward(
        lambda lib, x: x.permute(0, 2, 3, 1).contiguous(), (32, 64, 32, 32)
    ),
    "copy of heads 12x64x4x32": forward(lambda lib, x: x.transpose(1, 2).contiguous(), (12, 64, 4, 32)),
    "flip 1000x1000": forward(lambda lib, x: x.flip(1), SQUARE),
    "pad images": forward(lambda lib, x: lib.nn.functional.pad(x, (1, 1, 1, 1)), (32, 16, 32, 32)),
    "tril 1000x1000": forward(lambda lib, x: x.tril(), SQUARE),
    "float64 to float32 1e6": forward(lambda lib, x: x.float(), lambda lib: lib.randn(MILLION).double()),
    "uint8 to float32 1e6": forward(
        lambda lib, x: x.float(), lambda lib: lib.randint(0, 255, MILLION).byte()
    ),
    "float32 to bfloat16 1e6": forward(lambda lib, x: x.bfloat16(), MILLION),
    "sort 1e5": forward(lambda lib, x: x.sort(), _shuffled(100_000)),
    "sort 1e6": forward(lambda lib, x: x.sort(), _shuffled(*MILLION)),
    "sort last, 1000x1000": forward(lambda lib, x: x.sort(1), _shuffled(*SQUARE)),
    "sort first, 1000x1000": forward(lambda lib, x: x.sort(0), _shuffled(*SQUARE)),
    "sort int64 1e6": forward(lambda lib, x: x.sort()[0], integers(1_000_000_000, *MILLION)),
    "argsort 1e5": forward(lambda lib, x: x.argsort(), _shuffled(100_000)),
    "topk 10 of 128x1000": forward(lambda lib, x: x.topk(10), (128, 1000)),
    "topk 100 of 1e6": forward(lambda lib, x: x.topk(100), MILLION),
    "cumsum 1e6": forward(lambda lib, x: x.cumsum(0), MILLION),
    "cumsum last, 1000x1000": forward(lambda lib, x: x.cumsum(1), SQUARE),
    "cumsum first, 1000x1000": forward(lambda lib, x: x.cumsum(0), SQUARE),
    "Embedding 12x64 of 65x128": layer(lambda nn: nn.Embedding(65, 128), integers(65, 12, 64)),
}


def test_race(race, case, threads):
    race(CASES[case], threads)
