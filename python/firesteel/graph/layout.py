"""Where boxes and arrows go: layers from top to bottom, few crossings, straight arrows (Sugiyama's method).

1. Every box gets a layer below those of its producers; leaves stand right above their first user.
2. An arrow over several layers gets a bend in each of them, which takes room like a box: so no arrow
   crosses a box.
3. Sweeps over the layers sort each by the mean place of its neighbours, and keep the order with the fewest
   crossings.
4. Coordinates: each layer is placed as near as its order allows to its neighbours in the layer before, by
   least squares.

The same graph always gives the same picture.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]

# Room between neighbours of a layer, between layers, around the picture, and beside an arrow.
BESIDE = 22.0
BETWEEN = 44.0
MARGIN = 24.0
BEND = 10.0
# Distance of arrows at the edge of a box, and from its corners.
PORTS = 14.0
CORNER = 16.0
# An arrow arrives straight from above, for so long.
TIP = 10.0
SWEEPS = 12


@dataclass
class Layout:
    """Boxes as (left, top, width, height), arrows as chains of points, and the size of the canvas.

    An arrow is a straight line from an even to an odd point, and a curve from an odd to an even one.
    """

    boxes: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    arrows: dict[tuple[int, int], list[Point]] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


def arrange(
    sizes: Mapping[int, tuple[float, float]], arrows: Sequence[tuple[int, int]], leaves: set[int]
) -> Layout:
    """Places boxes of the given sizes.

    Args:
        sizes: width and height of each box.
        arrows: pairs of boxes, from producer to user; without circles.
        leaves: boxes that may stand anywhere above their users.
    """
    layer_of = _layers(sizes, arrows, leaves)
    chains = _Chains(sizes, arrows, layer_of)
    layers = _aside(_ordered(chains), chains, leaves)
    x = _coordinates(layers, chains, leaves)
    return _geometry(sizes, arrows, layers, chains, x)


def _layers(
    sizes: Mapping[int, tuple[float, float]], arrows: Sequence[tuple[int, int]], leaves: set[int]
) -> dict[int, int]:
    before: dict[int, list[int]] = {key: [] for key in sizes}
    after: dict[int, list[int]] = {key: [] for key in sizes}
    for start, end in arrows:
        before[end].append(start)
        after[start].append(end)
    order = _topological(before, after)
    layer: dict[int, int] = {}
    movable = set(leaves)
    for key in order:
        layer[key] = 1 + max((layer[other] for other in before[key]), default=-1)
        if before[key] and movable.issuperset(before[key]):
            movable.add(key)
    for key in reversed(order):
        if key in movable and after[key]:
            layer[key] = min(layer[other] for other in after[key]) - 1
    top = min(layer.values(), default=0)
    return {key: value - top for key, value in layer.items()}


def _topological(before: Mapping[int, list[int]], after: Mapping[int, list[int]]) -> list[int]:
    waiting = {key: len(others) for key, others in before.items()}
    ready = sorted((key for key, count in waiting.items() if count == 0), reverse=True)
    order = []
    while ready:
        key = ready.pop()
        order.append(key)
        for other in after[key]:
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    return order


class _Chains:
    """Boxes and the bends of long arrows, alike: numbers, with their neighbours in the layers around."""

    def __init__(
        self,
        sizes: Mapping[int, tuple[float, float]],
        arrows: Sequence[tuple[int, int]],
        layer_of: Mapping[int, int],
    ) -> None:
        self.layer = dict(layer_of)
        self.width = {key: width for key, (width, _) in sizes.items()}
        self.up: dict[int, list[int]] = {key: [] for key in sizes}
        self.down: dict[int, list[int]] = {key: [] for key in sizes}
        self.bends: set[int] = set()
        self.path: dict[tuple[int, int], list[int]] = {}
        # Arrows from one box share their bends as far as they go the same way.
        shared: dict[tuple[int, int], int] = {}
        fresh = max(sizes, default=0) + 1
        for start, end in arrows:
            path = [start]
            for level in range(layer_of[start] + 1, layer_of[end]):
                bend = shared.setdefault((start, level), fresh)
                if bend == fresh:
                    fresh += 1
                    self.layer[bend], self.width[bend] = level, BEND
                    self.up[bend], self.down[bend] = [], []
                    self.bends.add(bend)
                path.append(bend)
            path.append(end)
            self.path[start, end] = path
            for one, other in zip(path, path[1:], strict=False):
                if other not in self.down[one]:
                    self.down[one].append(other)
                    self.up[other].append(one)


def _ordered(chains: _Chains) -> list[list[int]]:
    """The layers, sorted so that few arrows cross."""
    layers: list[list[int]] = [[] for _ in range(max(chains.layer.values(), default=0) + 1)]
    seen: set[int] = set()
    # Depth first from the results: what belongs together begins side by side.
    for root in sorted((key for key in chains.layer if not chains.down[key]), reverse=True):
        waiting = [root]
        while waiting:
            key = waiting.pop()
            if key not in seen:
                seen.add(key)
                layers[chains.layer[key]].append(key)
                waiting += reversed(chains.up[key])
    best, fewest = [list(layer) for layer in layers], _crossings(layers, chains)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        near = chains.up if down else chains.down
        for layer in layers[1:] if down else reversed(layers[:-1]):
            places = _places(layers)
            now = {key: place for place, key in enumerate(layer)}

            def wish(
                key: int, near: Mapping[int, list[int]] = near, places: Mapping[int, float] = places
            ) -> float:
                others = near[key]
                return sum(places[other] for other in others) / len(others) if others else places[key]

            layer.sort(key=lambda key, now=now, wish=wish: (wish(key), now[key]))  # type: ignore[misc]
        crossings = _crossings(layers, chains)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _aside(layers: list[list[int]], chains: _Chains, leaves: set[int]) -> list[list[int]]:
    """The layers with leaves of one user moved to the free side of what stands above that user.

    Between an arrow that passes by and the boxes beside it, leaves would push the two apart.
    """
    fewest = _crossings(layers, chains)
    for level, layer in enumerate(layers):
        users = {key: chains.down[key][0] for key in layer if key in leaves and len(chains.down[key]) == 1}
        inner = [key for key in layer if key not in users]
        if not users or not inner:
            continue
        left: dict[int, list[int]] = {key: [] for key in inner}
        right: dict[int, list[int]] = {key: [] for key in inner}
        for user in dict.fromkeys(users.values()):
            own = [key for key in layer if users.get(key) == user]
            above = [place for place, key in enumerate(inner) if key in chains.up[user]]
            if not above:
                break
            before, after = above[0], len(inner) - 1 - above[-1]
            to_left = own[: len(own) // 2] if before == after else own if before < after else []
            left[inner[above[0]]] += to_left
            right[inner[above[-1]]] = [*own[len(to_left) :], *right[inner[above[-1]]]]
        else:
            layers[level] = [one for key in inner for one in (*left[key], key, *right[key])]
            crossings = _crossings(layers, chains)
            if crossings > fewest:
                layers[level] = layer
            else:
                fewest = crossings
    return layers


def _places(layers: Sequence[Sequence[int]]) -> dict[int, float]:
    """Where each stands in its layer, from 0 to 1: comparable between layers of different lengths."""
    return {key: (place + 0.5) / len(layer) for layer in layers for place, key in enumerate(layer)}


def _crossings(layers: Sequence[Sequence[int]], chains: _Chains) -> int:
    count = 0
    for layer, below in zip(layers, layers[1:], strict=False):
        place = {key: index for index, key in enumerate(below)}
        passed: list[int] = []
        for key in layer:
            ends = sorted(place[other] for other in chains.down[key])
            count += sum(len(passed) - bisect_left(passed, end + 1) for end in ends)
            for end in ends:
                insort(passed, end)
    return count


def spread(wishes: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to `wishes` by weighted squares, with `gaps[i]` at least between i and i + 1."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    # Pooling neighbours that want to be in each other's place (isotonic regression).
    pools: list[tuple[float, float, int]] = []
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        pool = (wish - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, total, count = pools.pop()
            both = total + pool[1]
            pool = ((mean * total + pool[0] * pool[1]) / both, both, count + pool[2])
        pools.append(pool)
    places = [mean for mean, _, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]


def _coordinates(layers: Sequence[Sequence[int]], chains: _Chains, leaves: set[int]) -> dict[int, float]:
    """The middle of each box and bend."""

    def gap(one: int, other: int) -> float:
        room = BEND if one in chains.bends and other in chains.bends else BESIDE
        return (chains.width[one] + chains.width[other]) / 2 + room

    def weight(key: int) -> float:
        return 6.0 if key in chains.bends else 0.01 if key in leaves else 2.0

    x: dict[int, float] = {}

    def settle(layer: Sequence[int], wish: Callable[[int], tuple[float, float]]) -> None:
        wishes = [wish(key) for key in layer]
        gaps = [gap(one, other) for one, other in zip(layer, layer[1:], strict=False)]
        places = spread([place for place, _ in wishes], [weight for _, weight in wishes], gaps)
        x.update(zip(layer, places, strict=True))

    for layer in layers:
        settle(layer, lambda key: (0.0, 1.0))

    def near(key: int, neighbours: Mapping[int, list[int]]) -> tuple[float, float]:
        # Leaves come to their users, not the other way round.
        others = [other for other in neighbours[key] if other not in leaves or key in leaves]
        if not others:
            return x[key], min(0.05, weight(key))
        # Boxes stand below boxes rather than below arrows that pass by: the main line stays straight.
        pull = {other: 0.2 if other in chains.bends and key not in chains.bends else 1.0 for other in others}
        return sum(x[other] * pull[other] for other in others) / sum(pull.values()), weight(key)

    for _ in range(8):
        for layer in reversed(layers[:-1]):
            settle(layer, lambda key: near(key, chains.down))
        for layer in layers[1:]:
            settle(layer, lambda key: near(key, chains.up))
    for layer in layers:
        settle(layer, lambda key: near(key, chains.down) if key in leaves else (x[key], 1000.0))
    return x


def _geometry(
    sizes: Mapping[int, tuple[float, float]],
    arrows: Sequence[tuple[int, int]],
    layers: Sequence[Sequence[int]],
    chains: _Chains,
    x: Mapping[int, float],
) -> Layout:
    layout = Layout()
    left = min((x[key] - chains.width[key] / 2 for key in x), default=0.0) - MARGIN
    right = max((x[key] + chains.width[key] / 2 for key in x), default=0.0) + MARGIN
    bands: list[tuple[float, float]] = []
    y = MARGIN
    for layer in layers:
        height = max((sizes[key][1] for key in layer if key in sizes), default=0.0)
        for key in layer:
            if key in sizes:
                width, own = sizes[key]
                layout.boxes[key] = (x[key] - width / 2 - left, y + (height - own) / 2, width, own)
        bands.append((y, y + height))
        y += height + BETWEEN
    layout.width, layout.height = right - left, y - BETWEEN + MARGIN
    _route(layout, arrows, chains, bands, {key: place - left for key, place in x.items()})
    return layout


def _route(
    layout: Layout,
    arrows: Sequence[tuple[int, int]],
    chains: _Chains,
    bands: Sequence[tuple[float, float]],
    x: Mapping[int, float],
) -> None:
    leaving = _ports(layout, {key: chains.down[key] for key in layout.boxes}, x)
    # An arrow that comes straight from above arrives where it left.
    start_x = {(one, other): place for (one, other), place in leaving.items()}
    entering = _ports(
        layout,
        {key: chains.up[key] for key in layout.boxes},
        x,
        lambda key, other: start_x.get((other, key), x[other]),
    )
    for arrow in arrows:
        path = chains.path[arrow]
        start, end = arrow
        points: list[Point] = []
        for place, (one, other) in enumerate(zip(path, path[1:], strict=False)):
            out = leaving[one, other] if one in layout.boxes else x[one]
            into = entering[other, one] if other in layout.boxes else x[other]
            if place == 0:
                points.append((out, layout.boxes[start][1] + layout.boxes[start][3]))
            points += [(out, bands[chains.layer[one]][1]), (into, bands[chains.layer[other]][0] - TIP)]
        points.append((points[-1][0], layout.boxes[end][1]))
        layout.arrows[arrow] = points


def _ports(
    layout: Layout,
    neighbours: Mapping[int, Sequence[int]],
    x: Mapping[int, float],
    wish: Callable[[int, int], float] | None = None,
) -> dict[tuple[int, int], float]:
    """Where arrows meet the edge of a box, by (box, neighbour)."""
    ports: dict[tuple[int, int], float] = {}
    for key, others in neighbours.items():
        left, _, width, _ = layout.boxes[key]
        low, high = left + CORNER, left + width - CORNER
        if wish is None and len(others) <= 1:
            ports |= {(key, other): left + width / 2 for other in others}
            continue
        if not others:
            continue
        wanted = sorted((wish(key, other) if wish else x[other], other) for other in others)
        gap = min(PORTS, (high - low) / max(len(others) - 1, 1))
        places = spread([place for place, _ in wanted], [1.0] * len(wanted), [gap] * (len(wanted) - 1))
        # Those beyond an end of the edge gather there, and leave the others where they are.
        for number, ((_, other), place) in enumerate(zip(wanted, places, strict=True)):
            first, last = low + number * gap, high - (len(wanted) - 1 - number) * gap
            ports[key, other] = min(max(place, first), last)
    return ports
