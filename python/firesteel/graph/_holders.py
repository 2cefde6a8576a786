"""Who holds an object: the variable, attribute or container through which a program can reach it."""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import (
    AsyncGeneratorType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, TypeVar, cast

from firesteel import _core

if TYPE_CHECKING:
    from firesteel import Tensor

_T = TypeVar("_T")

CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# How far up from a container its name is looked for: `trainer.history["loss"]`.
LEVELS = 4
# How deep in a container tensors are looked for: in a list of dicts, of objects with a list of tuples, ...
NESTING = 6
# A function with fast locals: its `f_locals` is a copy.
OPTIMIZED = 0x1
# A class that is written in Python, in the flags of a type.
HEAP_TYPE = 1 << 9
# Where the frame of what runs bit by bit is.
FRAMES: dict[type, str] = {
    GeneratorType: "gi_frame",
    CoroutineType: "cr_frame",
    AsyncGeneratorType: "ag_frame",
}


@dataclass(frozen=True)
class Holder:
    """A place in a program that holds an object, as the program would spell it, and where that is."""

    spelling: str
    place: str

    def __str__(self) -> str:
        return f"{self.spelling} ({self.place})" if self.place else self.spelling


class Holders:
    """Finds who holds each of `tensors`; objects in `ignored` are not holders."""

    def __init__(self, tensors: Sequence[Tensor], ignored: Iterable[object] = ()) -> None:
        # What this search makes holds what it looks at, and must not be found. It stays alive as long as the
        # search, so that nothing else gets its identity.
        self._own: list[object] = [*ignored]
        self._own_ids = {id(self._own), *map(id, ignored)}
        self._tensors = self._mine({id(tensor): tensor for tensor in tensors})
        self._names: dict[int, list[Holder]] = {}
        for holder, identity in _variables():
            self._names.setdefault(identity, []).append(holder)
        self._referrers = self._referrers_of(self._tensors)

    def _mine(self, made: _T) -> _T:
        self._own.append(made)
        self._own_ids.add(id(made))
        return made

    def _found_for(self, values: tuple[object, ...]) -> list[object]:
        """What refers to `values`, but for what this search made."""
        self._mine(values)
        found = self._mine(gc.get_referrers(*values) if values else [])
        found[:] = [one for one in found if id(one) not in self._own_ids]
        return found

    def _referrers_of(self, objects: Mapping[int, object]) -> dict[int, list[object]]:
        """What refers to each of `objects`, by the identity of these."""
        referrers: dict[int, list[object]] = self._mine({})
        for referrer in self._found_for(tuple(objects.values())):
            for identity in set(map(id, gc.get_referents(referrer))):
                held = objects.get(identity)
                if held is not None and held is not referrer and not _packs(referrer, held):
                    referrers.setdefault(identity, self._mine([])).append(referrer)
        return referrers

    def of(self, tensor: Tensor) -> list[Holder]:
        """The places that hold a tensor."""
        return _unique([*self._named(tensor), *self._through(tensor, self._referrers.get(id(tensor), []), 0)])

    def has(self, tensor: Tensor) -> bool:
        """Whether Python code can reach a tensor: a variable, an attribute or a container holds it."""
        return id(tensor) in self._names or id(tensor) in self._referrers

    def containers(self, least: int) -> list[tuple[Holder, list[Tensor]]]:
        """Containers that hold at least so many of the tensors, with these, also within other containers.

        Of containers within each other the innermost counts: of the lists in a dict, each list by itself.
        """
        found: list[tuple[Holder, list[Tensor]]] = []
        inside: dict[int, set[int]] = {}
        told: set[int] = set()
        level: dict[int, set[int]] = {identity: {identity} for identity in self._tensors}
        referrers = self._referrers
        for _ in range(NESTING):
            above: dict[int, object] = self._mine({})
            members: dict[int, set[int]] = {}
            for identity, within in level.items():
                for referrer in referrers.get(identity, ()):
                    if self._may_hold(referrer):
                        above[id(referrer)] = referrer
                        members.setdefault(id(referrer), set()).update(within)
            innermost: set[int] = set()
            for key, within in members.items():
                all_within = inside.setdefault(key, set())
                all_within |= within
                if len(all_within - told) >= least and _grows(above[key]):
                    innermost |= all_within
                    found.append((self._container(above[key]), [self._tensors[one] for one in all_within]))
            told |= innermost
            level = members
            if not above:
                break
            referrers = self._referrers_of(above)
        return found

    def _container(self, container: object) -> Holder:
        kind = f"a {type(container).__name__}"
        places = self._places(container, 0)
        if not places:
            return Holder(kind, "")
        return Holder(places[0].spelling, ", ".join(filter(None, [kind, places[0].place])))

    def _may_hold(self, referrer: object) -> bool:
        """Whether a container may hold tensors through this: another container, or an object of a program."""
        if issubclass(type(referrer), CONTAINERS):
            return not self._is_namespace(referrer)
        from firesteel.nn import Module

        # The modules of a model do not become more.
        return bool(type(referrer).__flags__ & HEAP_TYPE) and not issubclass(type(referrer), Module | type)

    def _named(self, value: object) -> list[Holder]:
        return self._names.get(id(value), [])

    def _places(self, value: object, level: int) -> list[Holder]:
        """The places that hold a container or another object."""
        named = self._named(value)
        if named or level >= LEVELS:
            return named
        return _unique(self._through(value, self._found_for((value,)), level))

    def _through(self, value: object, referrers: Sequence[object], level: int) -> list[Holder]:
        found: list[Holder] = []
        for referrer in referrers:
            if issubclass(type(referrer), FrameType | ModuleType | MappingProxyType):
                continue
            if issubclass(type(referrer), CellType):
                found += self._in_cell(referrer)
            elif type(referrer) in FRAMES:
                found += _in_generator(value, referrer)
            elif issubclass(type(referrer), CONTAINERS):
                if not self._is_namespace(referrer):
                    found += self._in_container(value, referrer, level)
            else:
                found += self._in_object(value, referrer, level)
        return found

    def _in_cell(self, cell: object) -> list[Holder]:
        for closure in self._found_for((cell,)):
            if type(closure) is tuple:
                for function in self._found_for((closure,)):
                    if type(function) is FunctionType and function.__closure__ is closure:
                        names = zip(function.__code__.co_freevars, closure, strict=True)
                        name = next(name for name, one in names if one is cell)
                        return [Holder(name, f"variable of the closure {function.__qualname__}()")]
        return [Holder("a variable of a closure", "")]

    def _in_container(self, value: object, container: Any, level: int) -> list[Holder]:
        owner = _owner(container) if isinstance(container, dict) else None
        if owner is not None:
            return self._in_object(value, owner, level)
        if isinstance(container, dict):
            key = next((repr(key) for key, item in container.items() if item is value), "...")
        elif isinstance(container, set | frozenset):
            key = "..."
        else:
            key = next((str(index) for index, item in enumerate(container) if item is value), "...")
        kind = type(container).__name__
        above = self._places(container, level + 1)
        return [Holder(f"{holder.spelling}[{key}]", holder.place) for holder in above] or [
            Holder(f"item {key} of a {kind}", "")
        ]

    def _in_object(self, value: object, owner: object, level: int) -> list[Holder]:
        name = _attribute_name(value, owner)
        kind = f"the class {owner.__name__}" if isinstance(owner, type) else f"a {type(owner).__name__}"
        if name is None:
            return [Holder(f"an object of type {type(owner).__name__}", "")]
        above = self._places(owner, level + 1)
        return [Holder(f"{holder.spelling}.{name}", holder.place) for holder in above] or [
            Holder(f"attribute {name} of {kind}", "")
        ]

    def _is_namespace(self, container: object) -> bool:
        """Whether a dict holds the variables of a module or a frame: these are known by name already."""
        return isinstance(container, dict) and ("__builtins__" in container or "__spec__" in container)


def _grows(container: object) -> bool:
    """Whether a program puts more and more things into this: not into the attributes of an object."""
    if not issubclass(type(container), CONTAINERS):
        return False
    return not isinstance(container, dict) or _owner(container) is None


def _in_generator(value: object, generator: object) -> list[Holder]:
    frame: FrameType | None = getattr(generator, FRAMES[type(generator)])
    if frame is not None:
        for variable, identity in _locals(frame).items():
            if identity == id(value):
                code = frame.f_code
                return [
                    Holder(variable, f"local of {code.co_qualname}(), {code.co_filename}:{frame.f_lineno}")
                ]
    return [Holder(f"an object of type {type(generator).__name__}", "")]


def _variables() -> Iterator[tuple[Holder, int]]:
    """Variables of all modules and running functions, with the identity of what they hold."""
    seen: set[int] = set()

    def named(place: str, variables: dict[str, object]) -> Iterator[tuple[Holder, int]]:
        if id(variables) not in seen:
            seen.add(id(variables))
            for variable, value in list(variables.items()):
                yield Holder(variable, place), id(value)

    own: set[int] = set()
    for name, module in list(sys.modules.items()):
        if name.startswith("firesteel."):
            own.add(id(_attributes(module)))
        elif issubclass(type(module), ModuleType):
            yield from named(f"global of {name}", _attributes(module))
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            code = frame.f_code
            if id(frame.f_globals) not in own:
                # Code that `exec` runs has variables that are no module's.
                module_name = frame.f_globals.get("__name__", code.co_filename)
                yield from named(f"global of {module_name}", frame.f_globals)
                place = f"local of {code.co_qualname}(), {code.co_filename}:{frame.f_lineno}"
                if code.co_flags & OPTIMIZED:
                    for variable, identity in _locals(frame).items():
                        yield Holder(variable, place), identity
                elif type(frame.f_locals) is dict:
                    yield from named(place, frame.f_locals)
            frame = frame.f_back


def _locals(frame: FrameType) -> dict[str, int]:
    """Identities of the local variables of a frame, without leaving a copy in it that keeps them alive."""
    shown = frame.f_locals
    # A variable that inner functions share holds its value in a cell, which `f_locals` looks through.
    identities = {name: id(value) for name, value in shown.items()}
    # Before Python 3.13 the frame keeps `shown`: emptied, unless the program itself asked for it, `locals()`.
    if sys.version_info < (3, 13) and sys.getrefcount(shown) <= 3:
        shown.clear()
    return identities


def _owner(attributes: dict[Any, Any]) -> object | None:
    """The object or class whose attributes this dict holds."""
    for referrer in gc.get_referrers(attributes):
        if not issubclass(type(referrer), FrameType) and _attributes(referrer) is attributes:
            owner: object = referrer
            return owner
    return None


def _attributes(owner: object) -> dict[str, object]:
    """An object's `__dict__`, without running code of its own; of a class, the dict behind its proxy."""
    try:
        if issubclass(type(owner), type):
            found: object = next(iter(gc.get_referents(type.__getattribute__(owner, "__dict__"))), None)
        else:
            found = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def _attribute_name(value: object, owner: object) -> str | None:
    """The name by which an object holds a value: in its `__dict__` or in a slot."""
    for name, item in list(_attributes(owner).items()):
        if item is value:
            return name
    for base in type(owner).__mro__:
        for name, slot in vars(base).items():
            if type(slot) is MemberDescriptorType:
                try:
                    if slot.__get__(owner) is value:
                        return name
                except AttributeError:
                    continue
    return None


def _packs(referrer: object, held: object) -> bool:
    """Whether a tensor or a node shows what a hook on saved tensors made for its graph."""
    if issubclass(type(referrer), _core.Node):
        return True
    if not issubclass(type(referrer), _core.Tensor) or not issubclass(type(held), _core.Tensor):
        return False
    tensor = cast(_core.Tensor, referrer)
    # Others have no gradient, and asking for it is a warning.
    return not ((tensor.is_leaf or tensor.retains_grad) and tensor.grad is held)


def _unique(holders: Iterable[Holder]) -> list[Holder]:
    return list(dict.fromkeys(holders))
