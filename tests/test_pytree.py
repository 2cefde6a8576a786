"""Trees of containers: taken apart in order, and put together as they were."""

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest

import firesteel
from firesteel.utils._pytree import broadcast_prefix, tree_flatten, tree_leaves, tree_map, tree_unflatten

Pair = namedtuple("Pair", ["first", "second"])
TREES = [
    3,
    None,
    (),
    [],
    {},
    (1, [2, {"a": 3, "b": (None, ())}]),
    Pair(1, [2, Pair(3, 4)]),
    OrderedDict(b=1, a=[2]),
    defaultdict(list, {"b": 1, "a": [2]}),
    deque([1, (2, 3)], maxlen=4),
]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_what_is_taken_apart_is_put_together(tree):
    leaves, spec = tree_flatten(tree)
    rebuilt = tree_unflatten(leaves, spec)
    assert rebuilt == tree and type(rebuilt) is type(tree)
    assert spec.num_leaves == len(leaves) and tree_flatten(rebuilt)[1] == spec


def test_leaves_are_in_order():
    x = firesteel.ones(2)
    assert tree_leaves((1, [2, {"b": 3, "a": (None, x.shape)}])) == [1, 2, 3, None, x.shape]
    assert tree_leaves(x)[0] is x


def test_specs_tell_containers_and_keys_apart():
    specs = [
        tree_flatten(tree)[1] for tree in [(1, 2), [1, 2], Pair(1, 2), {"a": 1, "b": 2}, {"a": 1, "c": 2}, 1]
    ]
    for i, spec in enumerate(specs):
        assert [spec == other for other in specs] == [i == j for j in range(len(specs))]
    assert [repr(spec) for spec in specs[:4]] == ["(*, *)", "[*, *]", "Pair(*, *)", "{'a': *, 'b': *}"]
    assert repr(tree_flatten((1,))[1]) == "(*,)"


def test_what_a_container_has_beside_its_children_is_kept():
    counted = tree_map(lambda x: x + 1, defaultdict(int, a=1))
    assert counted["a"] == 2 and counted["new"] == 0
    assert tree_map(lambda x: x + 1, deque([1], maxlen=3)).maxlen == 3
    for one, other in (
        (deque([1], maxlen=3), deque([1])),
        (defaultdict(int, a=1), defaultdict(list, a=1)),
        (defaultdict(int, a=1), {"a": 1}),
    ):
        assert tree_flatten(one)[1] != tree_flatten(other)[1]


def test_dictionaries_of_any_kind_are_prefixes_by_key():
    for kind in (dict, OrderedDict, lambda pairs: defaultdict(int, pairs)):
        spec = tree_flatten(kind([("b", 1), ("a", [2, 3])]))[1]
        for prefix in ({"a": 0, "b": None}, OrderedDict(b=None, a=0)):
            assert broadcast_prefix(prefix, spec) == [None, 0, 0]
        assert broadcast_prefix({"a": 0}, spec) is None


def test_the_number_of_leaves_must_be_right():
    _, spec = tree_flatten((1, [2]))
    for leaves in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"tree_unflatten: \d leaves for 2 places in \(\*, \[\*\]\)"):
            tree_unflatten(leaves, spec)


def test_map_keeps_the_containers():
    assert tree_map(lambda x: x * 2, Pair([1], {"k": 2})) == Pair([2], {"k": 4})


def test_prefixes():
    spec = tree_flatten(({"b": 1, "a": [2, 3]}, 4))[1]
    assert broadcast_prefix(0, spec) == [0] * 4
    assert broadcast_prefix((0, None), spec) == [0, 0, 0, None]
    assert broadcast_prefix(({"a": 1, "b": 0}, None), spec) == [0, 1, 1, None]
    for wrong in ((0,), [0, 1], ({"a": 0}, 1), ({"a": (0, 1), "b": 0}, 1), (0, (1,))):
        assert broadcast_prefix(wrong, spec) is None
