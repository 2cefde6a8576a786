"""Copies between layouts, picking, masks and sorting: PyTorch's values for sizes that fill vectors, blocks and threads
and sizes that do not, for every size of an element, on one thread and on two."""

import pytest

import firesteel
from tensors import assert_same

torch = pytest.importorskip("torch")

DTYPES = ["bool", "uint8", "bfloat16", "int32", "float32", "int64", "float64"]


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"], autouse=True)
def _threads(request):
    before = firesteel.get_num_threads()
    firesteel.set_num_threads(request.param)
    yield
    firesteel.set_num_threads(before)


def _numbers(lib, *shape, dtype="float32"):
    """Whole numbers without a period that a stride could meet; exact in every dtype."""
    count = 1
    for extent in shape:
        count *= extent
    return (lib.arange(count) * 2654435761 % 251).to(getattr(lib, dtype)).view(*shape)


def _check(call):
    assert_same(call(firesteel), call(torch))


COPIES = {
    "transposed": lambda x: x.t(),
    "transposed part": lambda x: x[1:, 1:].t(),
    "transposed every second": lambda x: x[:, ::2].t(),
    "every second": lambda x: x[:, ::2],
    "narrow": lambda x: x[:, : x.shape[1] // 2],
    "one column repeated": lambda x: x[:, :1].expand(-1, 5),
    "one row repeated": lambda x: x[:1].expand(5, -1),
    "flipped": lambda x: x.flip(1),
    "upside down": lambda x: x.flip(0),
    "turned": lambda x: x.flip(0, 1),
    "transposed and flipped": lambda x: x.t().flip(1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 7), (3, 5), (16, 64), (17, 66), (64, 17), (131, 70), (600, 300), (3, 20_000)]
)
def test_copies_of_matrices(shape, dtype):
    for view in COPIES.values():
        _check(lambda lib, view=view: view(_numbers(lib, *shape, dtype=dtype)).contiguous())


def test_copies_larger_than_caches():
    x = firesteel.arange(9_000_011, dtype=firesteel.float32)
    for part in (x, x[5:], x[: 36 * 250_000].view(36, 250_000)[:, 1:]):
        copy = part.clone()
        assert copy.data_ptr() != part.data_ptr()
        assert firesteel.equal(copy, part)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 2, 1, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 0, 1, 3)])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4, 19, 33, 6), (5, 64, 4, 32)])
def test_permuted_copies(shape, order, dtype):
    _check(lambda lib: _numbers(lib, *shape, dtype=dtype).permute(order).contiguous())

    def into_a_view(lib):
        out = lib.zeros(*(2 * shape[d] for d in order), dtype=getattr(lib, dtype))
        out[::2, 1::2, ::2, : shape[order[3]]] = _numbers(lib, *shape, dtype=dtype).permute(order)
        return out

    _check(into_a_view)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_joined_pieces(dim):
    for shape in [(2, 3, 4), (5, 1, 33), (70, 40, 30)]:
        _check(lambda lib, shape=shape: lib.cat([_numbers(lib, *shape)] * 3, dim))
        _check(lambda lib, shape=shape: lib.stack([_numbers(lib, *shape)] * 3, dim))
        _check(
            lambda lib, shape=shape: lib.cat(
                [_numbers(lib, *shape), _numbers(lib, *shape, dtype="int64")], dim
            )
        )
        _check(lambda lib, shape=shape: lib.stack([_numbers(lib, *shape).transpose(0, 1)] * 2, dim))
    _check(lambda lib: lib.cat([_numbers(lib, 2, 3, 4), lib.zeros(0), _numbers(lib, 2, 3, 4)], dim))


PADS = [(1, 1), (0, 3), (1, 1, 1, 1), (0, 0, 2, 1), (2, 0, 0, 0, 1, 1), (-1, 2, 1, -1), (-1, -1)]


SHAPES = [(2, 3, 4), (3, 33, 32), (40, 50, 60), (2, 300, 300), (0, 3, 4)]


# Nothing can be cut off nothing.
@pytest.mark.parametrize(
    "pads, shape", [(pads, shape) for pads in PADS for shape in SHAPES if shape[0] or min(pads) >= 0], ids=str
)
def test_padding(pads, shape):
    def padded(lib):
        x = _numbers(lib, *shape).requires_grad_()
        y = lib.nn.functional.pad(x, pads, value=2.5)
        y.backward(_numbers(lib, *y.shape))
        transposed = lib.nn.functional.pad(
            _numbers(lib, *shape, dtype="uint8").transpose(0, 1), pads, value=1
        )
        return y.detach(), x.grad, transposed

    _check(padded)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float32", "float64"])
def test_gathered_and_scattered(dim, dtype):
    shape, picked = (40, 30, 50), (33, 27, 45)

    def call(lib):
        x = _numbers(lib, *shape, dtype=dtype)
        index = _numbers(lib, *picked, dtype="int64") % 27
        source = _numbers(lib, *picked, dtype=dtype)
        strided = _numbers(lib, *picked[::-1], dtype="int64").permute(2, 1, 0) % 27
        return (
            x.gather(dim, index),
            x.gather(dim, strided),
            x.transpose(0, 2).gather(dim, index[:, :, :40]),
            x.scatter(dim, index, source),
            (x % 2).scatter_add(dim, index, source % 2),
            x.index_select(dim, index[0, 0]),
            x.transpose(0, 1).index_select(dim, index[0, 0]),
        )

    _check(call)


@pytest.mark.parametrize("dim", [0, 1])
def test_gradients_of_picks(dim):
    def call(lib):
        x, y = (_numbers(lib, 60, 70).requires_grad_() for _ in range(2))
        index = _numbers(lib, 50, 60, dtype="int64") % 50
        (x.gather(dim, index) * _numbers(lib, 50, 60)).sum().backward()
        picked = y.index_select(dim, index[0])
        (picked * _numbers(lib, *picked.shape)).sum().backward()
        return x.grad, y.grad

    _check(call)


@pytest.mark.parametrize("count", [1, 100, 100_000])
def test_picks_from_both_ends(count):
    def call(lib):
        x = _numbers(lib, 251, 300)
        rows, columns = _numbers(lib, count, dtype="int64"), _numbers(lib, count, dtype="int32") - 250
        y = x.clone()
        y[rows, columns] = 0.5
        first = (columns[:100].view(-1, 1), rows[:100])
        return x[rows, columns], x[columns], x.t()[rows], x[:, columns], y, x[first], x[rows[:1], columns]

    _check(call)


@pytest.mark.parametrize("wrong", [-6, 5, 2**40])
def test_wrong_picks(wrong):
    for count in (2, 100_000):
        rows = firesteel.zeros(count, dtype=firesteel.int64)
        rows[-1] = wrong
        for pick in (lambda x, rows=rows: x[rows], lambda x, rows=rows: x[rows, rows]):
            with pytest.raises(
                IndexError,
                match=f"index {wrong} is out of bounds for dimension 0 with size 5; use indices from -5 to 4",
            ):
                pick(firesteel.zeros(5, 6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 200), (2, 3, 70, 90), (0, 4), (4, 0)])
def test_triangles(shape, dtype):
    def call(lib):
        x = _numbers(lib, *shape, dtype=dtype)
        turned = x.transpose(-1, -2)
        ways = [way for k in (-400, -2, 0, 1, 400) for way in (x.tril(k), x.triu(k), turned.tril(k))]
        return *ways, x.tril_(-1)

    _check(call)


def test_wrong_indices_leave_the_target_alone():
    for wrong in (-1, 30, 2**40):
        for dim in (0, 1):
            x, index = firesteel.zeros(30, 400), firesteel.zeros(30, 400, dtype=firesteel.int64)
            index[-1, -1] = wrong if dim == 0 or wrong != 30 else 400
            for write in (x.scatter_add_, x.scatter_):
                with pytest.raises(IndexError, match="out of bounds"):
                    write(dim, index, firesteel.ones(30, 400))
            assert not x.any()
            for read, more in ((x.gather, ()), (x.scatter, (x + 1,))):
                with pytest.raises(IndexError, match=f"index {index[-1, -1].item()} is out of bounds"):
                    read(dim, index, *more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 63, 64, 1000, 100_000])
def test_masks(length, dtype):
    def call(lib):
        x, mask = _numbers(lib, length, dtype=dtype), _numbers(lib, length) > 120
        y, column = x.clone(), x.clone().view(-1, 1).expand(-1, 3).clone()
        y[mask] = 7
        column[mask] = lib.tensor(3)
        z = x.clone().view(1, -1)
        z[mask.view(1, -1)] = lib.tensor([True])
        return x[mask], x[~mask], mask.nonzero(), mask.view(1, -1, 1).nonzero(), x.nonzero(), y, column, z

    _check(call)


def test_written_masks_keep_their_history():
    def call(lib):
        x = _numbers(lib, 6, 5).requires_grad_()
        y, mask = x * 2, _numbers(lib, 6, 5) > 100
        y[mask] = 1.0
        (y * y).sum().backward()
        return x.grad, (x[mask] * 3).sum()

    _check(call)


ROWS = {
    "ties": lambda lib, n, dtype: _numbers(lib, 3, n, dtype=dtype) % 5,
    "many digits": lambda lib, n, dtype: (
        ((lib.arange(3 * n) * 2654435761 % 4294967291 - 2**31) * 2**20).view(3, n).to(getattr(lib, dtype))
    ),
    "equal": lambda lib, n, dtype: lib.ones(3, n, dtype=getattr(lib, dtype)),
}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("length", [1, 7, 511, 512, 3000])
def test_sorted_rows(length, rows, dtype):
    for descending in (False, True):
        _check(
            lambda lib, descending=descending: tuple(
                lib.sort(ROWS[rows](lib, length, dtype), descending=descending, stable=True)
            )
        )


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
@pytest.mark.parametrize("length", [65_537, 150_001])
def test_sorted_long_rows(length, dtype):
    for rows in ROWS.values():
        _check(lambda lib, rows=rows: tuple(lib.sort(rows(lib, length, dtype)[0], stable=True)))
        _check(
            lambda lib, rows=rows: tuple(lib.sort(rows(lib, length, dtype)[1], descending=True, stable=True))
        )


@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_sorted_infinities(count):
    odd = [float("nan"), 1.0, float("-inf"), -0.0, 0.0, float("inf"), float("nan"), -1.0, 5e-324] * count
    for dtype in ("float32", "float64"):
        for descending in (False, True):
            _check(
                lambda lib, dtype=dtype, descending=descending: tuple(
                    lib.sort(lib.tensor(odd, dtype=getattr(lib, dtype)), descending=descending, stable=True)
                )
            )
    extremes = [2**63 - 1, -(2**63), 0, -1, 1, 2**32, -(2**32)] * 100
    _check(lambda lib: tuple(lib.sort(lib.tensor(extremes), stable=True)))


@pytest.mark.parametrize("k", [0, 1, 3, 10, 100, 300])
@pytest.mark.parametrize("dtype", ["int32", "int64", "bfloat16", "float32", "float64"])
def test_the_first_of_rows(k, dtype):
    """Places are those of the first of equals, where PyTorch's are of any."""
    for rows in ROWS.values():
        for largest in (True, False):
            x = rows(firesteel, 3000, dtype)
            values, places = x.topk(k, largest=largest)
            theirs = rows(torch, 3000, dtype)
            assert_same(values, theirs.topk(k, largest=largest)[0])
            assert_same(places, torch.sort(theirs, descending=largest, stable=True)[1][:, :k])


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
@pytest.mark.parametrize("shape", [(1,), (1025,), (3, 5000), (2000, 3), (2, 300_000), (4, 3, 5)])
def test_any_and_all(shape, dtype):
    def call(lib):
        result = []
        for value, odd in [(0, 1), (1, 0), (0, float("nan")), (0.0, -0.0)]:
            x = lib.full(shape, value).to(getattr(lib, dtype))
            result += [x.any(), x.all(), x.any(-1), x.all(-1), x.any(0), x.all(0, keepdim=True)]
            if odd == odd or dtype.startswith(("float", "bfloat")):
                x.view(-1)[-1] = odd
                result += [x.any(), x.all(), x.any(-1), x.all(-1), x.any(0), x.all(0, keepdim=True)]
        return result

    _check(call)


@pytest.mark.parametrize("shape", [(300, 400), (7, 1), (50, 1, 60), (4, 5, 6, 7), (1, 100_000), (100_000, 1)])
@pytest.mark.parametrize("every", [1, 2, 100, 3000])
def test_coordinates_of_hits(every, shape):
    _check(lambda lib: (_numbers(lib, *shape, dtype="int64") % every == 0).nonzero())
    _check(
        lambda lib: (_numbers(lib, *shape, dtype="int64") % every == 0).transpose(0, 1).nonzero(as_tuple=True)
    )
