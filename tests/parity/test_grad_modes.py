"""Grad modes around functions, generators, methods, classes and coroutines, as in PyTorch."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Generator
from typing import Any

import pytest

from libraries import both

MODES = ["no_grad", "inference_mode"]


@both
@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "called"])
def test_functions_and_methods(lib: Any, name: str, bare: bool) -> None:
    mode = getattr(lib, name)
    decorate = mode if bare else mode()

    class Model:
        @decorate
        def method(self, x: Any) -> Any:
            """Doubles."""
            return x * 2

        @staticmethod
        @decorate
        def static(x: Any) -> Any:
            return x * 2

        @classmethod
        @decorate
        def of_class(cls, x: Any) -> Any:
            return x * 2

        @property
        @decorate
        def value(self) -> Any:
            return x * 2

    x, model = lib.ones(2, requires_grad=True), Model()
    for result in (model.method(x), Model.static(x), model.of_class(x), model.value):
        assert not result.requires_grad
    assert lib.is_grad_enabled() and (x * 2).requires_grad
    assert Model.method.__name__ == "method" and Model.method.__doc__ == "Doubles."


@both
def test_set_grad_enabled_and_enable_grad_decorate(lib: Any) -> None:
    @lib.set_grad_enabled(False)
    def silent() -> bool:
        return bool(lib.is_grad_enabled())

    assert lib.is_grad_enabled()  # decorating changes nothing

    @lib.enable_grad()
    def loud() -> bool:
        return bool(lib.is_grad_enabled())

    assert not silent() and lib.is_grad_enabled()
    with lib.no_grad():
        assert loud() and not lib.is_grad_enabled()


@both
def test_a_recursive_function_and_one_that_raises(lib: Any) -> None:
    @lib.no_grad()
    def down(depth: int) -> int:
        assert not lib.is_grad_enabled()
        if depth == 0:
            raise ValueError("at the bottom")
        return down(depth - 1)

    with pytest.raises(ValueError, match="bottom"):
        down(5)
    assert lib.is_grad_enabled()


@both
@pytest.mark.parametrize("name", MODES)
def test_generators(lib: Any, name: str) -> None:
    inside, closed = [], []

    @getattr(lib, name)()
    def numbers() -> Generator[int, str, str]:
        try:
            for i in range(3):
                inside.append(lib.is_grad_enabled())
                try:
                    sent = yield i
                    inside.append(sent)
                except KeyError:
                    inside.append("caught")
        finally:
            closed.append(lib.is_grad_enabled())
        return "done"

    generator = numbers()
    assert next(generator) == 0 and lib.is_grad_enabled()
    assert generator.send("hello") == 1 and lib.is_grad_enabled()
    assert generator.throw(KeyError) == 2 and lib.is_grad_enabled()
    with pytest.raises(StopIteration) as stopped:
        generator.send("last")
    assert stopped.value.value == "done"
    assert inside == [False, "hello", False, "caught", False, "last"] and closed == [False]
    half = numbers()
    next(half)
    half.close()
    assert closed == [False, False] and lib.is_grad_enabled()
    with lib.no_grad():
        assert list(numbers()) == [0, 1, 2]
        assert not lib.is_grad_enabled()


@both
def test_coroutines(lib: Any) -> None:
    """As in PyTorch, a decorated coroutine function is only made under the mode; a block inside of it holds."""

    async def block() -> bool:
        with lib.no_grad():
            return bool(lib.is_grad_enabled())

    @lib.no_grad()
    async def decorated() -> bool:
        return bool(lib.is_grad_enabled())

    assert asyncio.run(block()) is False
    assert asyncio.run(decorated()) is True
    assert lib.is_grad_enabled()


@both
def test_classes(lib: Any) -> None:
    """PyTorch warns, and decorates the constructor."""
    seen = []

    def make() -> Any:
        @lib.no_grad()
        class Holder:
            def __init__(self) -> None:
                seen.append(lib.is_grad_enabled())

            def later(self) -> None:
                seen.append(lib.is_grad_enabled())

        return Holder

    with pytest.warns(FutureWarning, match="Decorating classes is deprecated"):
        holder = make()
    holder().later()
    assert seen == [False, True] and lib.is_grad_enabled()


@both
def test_one_object_may_be_entered_again(lib: Any) -> None:
    mode = lib.no_grad()
    with mode:
        assert not lib.is_grad_enabled()
    with lib.enable_grad():
        with mode:
            assert not lib.is_grad_enabled()
        assert lib.is_grad_enabled()
    with lib.inference_mode(False):
        assert lib.is_grad_enabled()


@both
def test_modes_are_a_threads_own(lib: Any) -> None:
    seen = []
    with lib.no_grad():
        thread = threading.Thread(target=lambda: seen.append(lib.is_grad_enabled()))
        thread.start()
        thread.join()
        assert not lib.is_grad_enabled()
    assert seen == [True]


@both
@pytest.mark.parametrize("name", MODES)
def test_views_and_writes_under_a_mode(lib: Any, name: str) -> None:
    x = lib.ones(3, requires_grad=True)
    with lib.no_grad():
        x[0] = 5.0
        x[1:].mul_(2)
        x += 1
    assert x.is_leaf and x.requires_grad and x.tolist() == [6, 3, 3] and x._version == 3
    with getattr(lib, name)():
        assert (x * 2).is_leaf and not x.detach().requires_grad
        asked = lib.ones(2).requires_grad_()
        assert asked.requires_grad


@both
def test_inference_mode_says_so(lib: Any) -> None:
    def seen() -> tuple[bool, bool]:
        return lib.is_inference_mode_enabled(), lib.is_grad_enabled()

    assert seen() == (False, True)
    with lib.inference_mode():
        assert seen() == (True, False)
        with lib.enable_grad():
            assert seen() == (True, True)
        with lib.inference_mode(False):
            assert seen() == (False, True)
        assert seen() == (True, False)
        others: list[Any] = []
        thread = threading.Thread(target=lambda: others.append(seen()))
        thread.start()
        thread.join()
        assert others == [(False, True)]
    with lib.no_grad():
        assert seen() == (False, False)
    with pytest.raises(KeyError), lib.inference_mode():
        raise KeyError
    assert lib.inference_mode(seen)() == (True, False) and seen() == (False, True)


@both
@pytest.mark.parametrize("name", [*MODES, "enable_grad"])
def test_generators_with_arguments_filled_in(lib: Any, name: str) -> None:
    def generate(first: int, second: int) -> Any:
        yield first, lib.is_grad_enabled()
        yield second, lib.is_grad_enabled()

    inside = name == "enable_grad"
    with lib.set_grad_enabled(not inside):
        partial = functools.partial(functools.partial(generate, 1), 2)
        generator = getattr(lib, name)()(partial)()
        assert next(generator) == (1, inside)
        assert lib.is_grad_enabled() is not inside
        assert list(generator) == [(2, inside)]


@both
def test_classes_with_a_new_of_their_own(lib: Any) -> None:
    class Made:
        def __new__(cls, x: int) -> Any:
            made = object.__new__(cls)
            made.in_new = lib.is_grad_enabled()
            return made

        def __init__(self, x: int) -> None:
            self.x = x, lib.is_grad_enabled()

    with pytest.warns(FutureWarning, match="Decorating classes is deprecated"):
        decorated: Any = lib.no_grad()(Made)
    made = decorated(3)
    assert made.in_new is False and made.x == (3, False) and lib.is_grad_enabled()


@both
def test_clones_are_modes_of_the_same_kind(lib: Any) -> None:
    for mode in (lib.no_grad(), lib.inference_mode(False), lib.inference_mode()):
        with mode:
            expected = lib.is_grad_enabled(), lib.is_inference_mode_enabled()
        with mode.clone() as entered:
            assert entered is None
            assert (lib.is_grad_enabled(), lib.is_inference_mode_enabled()) == expected
