"""A fingerprint changes with what a function does, and with nothing else."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from lokki.source import fingerprint


def of(text: str) -> bytes:
    """The fingerprint of what a module with this text calls `f`."""
    module: dict[str, Any] = {"__name__": "birds"}
    exec(compile(textwrap.dedent(text), "birds.py", "exec", dont_inherit=True), module)
    return fingerprint(module["f"])


CHANGES = {
    "a constant": "def f(x): return x + [[1|2]]",
    "the type of a constant": "def f(x): return x, [[1|True]]",
    "an operator": "def f(x): return x [[+|*]] 1",
    "an attribute": "def f(x): return x.[[left|right]]",
    "a constant set": "def f(x): return x in {'owl', [['jay'|'tit']]}",
    "a default": "def f(x, n=[[1|2]]): return x + n",
    "a keyword's default": "def f(x, *, n=[[1|2]]): return x + n",
    "a default beside one that no pickle takes": "def f(x, key=lambda v: v, n=[[1|2]]): return key(x) + n",
    "a default that is a function": "def f(x, key=lambda v: v + [[1|2]]): return key(x)",
    "where try begins": """
        def f(x):
            [[|a(x)]]
            try:
                [[a(x)|]]
                b(x)
            except ValueError:
                return 1
        """,
    "an inner function": """
        def f(x):
            def inner(y):
                return y + [[1|2]]
            return inner(x)
        """,
    "a comprehension": "def f(x): return [each + [[1|2]] for each in x]",
    "a helper": """
        def f(x): return helper(x)
        def helper(x): return x + [[1|2]]
        """,
    "a helper of an inner function": """
        def f(x): return [helper(each) for each in x]
        def helper(x): return x + [[1|2]]
        """,
    "a helper of a helper": """
        def f(x): return helper(x)
        def helper(x): return second(x)
        def second(x): return x + [[1|2]]
        """,
    "a cached helper": """
        from functools import cache
        def f(x): return helper(x)
        @cache
        def helper(x): return x + [[1|2]]
        """,
    "a wrapped helper": """
        from functools import wraps
        def loud(fn):
            @wraps(fn)
            def inner(*args): return fn(*args)
            return inner
        def f(x): return helper(x)
        @loud
        def helper(x): return x + [[1|2]]
        """,
    "a decorator": """
        def plus(fn):
            def inner(x): return fn(x) + [[1|2]]
            return inner
        @plus
        def f(x): return x
        """,
    "the argument of a decorator": """
        def plus(n):
            def wrap(fn):
                def inner(x): return fn(x) + n
                return inner
            return wrap
        @plus([[1|2]])
        def f(x): return x
        """,
    "a step that is used": """
        from lokki import step
        @step
        def helper(x): return x + [[1|2]]
        def f(x): return helper.fn(x)
        """,
    "the step itself": """
        from lokki import step
        @step
        def f(x): return x + [[1|2]]
        """,
    "a method": """
        class Bird:
            def fly(self): return [[1|2]]
        def f(x): return Bird().fly()
        """,
    "a method of a base": """
        class Animal:
            def fly(self): return [[1|2]]
        class Bird(Animal):
            pass
        def f(x): return Bird().fly()
        """,
    "a static method": """
        class Bird:
            @staticmethod
            def fly(): return [[1|2]]
        def f(x): return Bird.fly()
        """,
    "a class method": """
        class Bird:
            @classmethod
            def fly(cls): return [[1|2]]
        def f(x): return Bird.fly()
        """,
    "a property": """
        class Bird:
            @property
            def wings(self): return [[1|2]]
        def f(x): return Bird().wings
        """,
    "a property's setter": """
        class Bird:
            @property
            def wings(self): return self.n
            @wings.setter
            def wings(self, n): self.n = n + [[1|2]]
        def f(x): return Bird()
        """,
    "a cached property": """
        from functools import cached_property
        class Bird:
            @cached_property
            def wings(self): return [[1|2]]
        def f(x): return Bird().wings
        """,
    "a cached method": """
        from functools import cache
        class Bird:
            @cache
            def wings(self): return [[1|2]]
        def f(x): return Bird().wings()
        """,
    "what a class has": """
        class Bird:
            [[wings|legs]] = 2
        def f(x): return Bird()
        """,
    "a field's default": """
        from dataclasses import dataclass
        @dataclass
        class Bird:
            wings: int = [[1|2]]
        def f(x): return Bird()
        """,
    "a value that a closure holds": """
        def outer(n):
            def f(x): return x + n
            return f
        f = outer([[1|2]])
        """,
    "a function that a closure holds": """
        def outer(fn):
            def f(x): return fn(x)
            return f
        f = outer(lambda x: x + [[1|2]])
        """,
    "a function in a list that a closure holds": """
        def outer(steps):
            def f(x): return [each(x) for each in steps]
            return f
        f = outer([lambda x: x, lambda x: x + [[1|2]]])
        """,
    "a value beside a lock that a closure holds": """
        from threading import Lock
        def outer(held):
            def f(x): return held
            return f
        f = outer({"lock": Lock(), "n": [[1|2]]})
        """,
    "the arguments of a partial": """
        from functools import partial
        def add(n, x): return x + n
        f = partial(add, [[1|2]])
        """,
    "the function of a partial": """
        from functools import partial
        def add(n, x): return x + n + [[1|2]]
        f = partial(add, 1)
        """,
    "a cached function": """
        from functools import cache
        @cache
        def f(x): return x + [[1|2]]
        """,
    "a bound method": """
        class Bird:
            def fly(self, x): return x + [[1|2]]
        f = Bird().fly
        """,
    "a method that a bound method uses": """
        class Bird:
            def fly(self, x): return self.height() + x
            def height(self): return [[1|2]]
        f = Bird().fly
        """,
    "a bound class method": """
        class Bird:
            @classmethod
            def fly(cls, x): return cls.height() + x
            @classmethod
            def height(cls): return [[1|2]]
        f = Bird.fly
        """,
    "an object that can be called": """
        class Bird:
            def __call__(self, x): return x + [[1|2]]
        f = Bird()
        """,
    "a class": """
        class f:
            def __init__(self, x): self.x = x + [[1|2]]
        """,
    "another built-in": "f = [[len|max]]",
}
SAME = {
    "a comment": "def f(x): return x  # [[one|another]]",
    "where it stands": """
        [[|import math

        y = 1]]
        def f(x):
            return [each for each in x]
        """,
    "how it is laid out": "def f(x): return [[(x +\n 1)|x + 1]]",
    "annotations": "def f(x: [[int|'float']]) -> [[int|None]]: return x",
    "a global value of what has no file": """
        n = [[1|2]]
        def f(x): return x + n
        """,
    "a function that is not used": """
        def f(x): return x
        def other(x): return x + [[1|2]]
        """,
    "the order of a constant set": "def f(x): return x in {[[8, 16, 0|0, 16, 8]]}",
    "another lock": """
        from threading import Lock
        def outer(lock, n):
            def f(x): return lock, n
            return f
        f = outer(Lock(), 1)
        """,
    "the docstring of a class": """
        class Bird:
            '''[[One|Another]] bird.'''
        def f(x): return Bird()
        """,
}


PLACE = re.compile(r"\[\[(.*?)\|(.*?)\]\]", re.DOTALL)


@pytest.mark.parametrize("what", CHANGES)
def test_it_changes_with(what: str) -> None:
    before, after = PLACE.sub(r"\1", CHANGES[what]), PLACE.sub(r"\2", CHANGES[what])
    assert before != after
    assert of(before) == of(before)
    assert of(before) != of(after)


@pytest.mark.parametrize("what", SAME)
def test_it_does_not_change_with(what: str) -> None:
    before, after = PLACE.sub(r"\1", SAME[what]), PLACE.sub(r"\2", SAME[what])
    assert of(before) == of(after)


def test_functions_that_use_each_other_have_one_too() -> None:
    text = """
        def f(x): return g(x - 1) if x else 0
        def g(x): return f(x - [[1|2]]) if x else 1
        """
    assert of(PLACE.sub(r"\1", text)) != of(PLACE.sub(r"\2", text))


@pytest.mark.parametrize("held", ["[f]", "held"])
def test_a_closure_may_hold_what_holds_itself(held: str) -> None:
    text = f"""
        def outer():
            def f(x): return held, x + [[1|2]]
            held = []
            held.append({held})
            return f
        f = outer()
        """
    before, after = PLACE.sub(r"\1", text), PLACE.sub(r"\2", text)
    assert of(before) == of(before) != of(after)


def test_a_closure_that_is_filled_later_is_left_out() -> None:
    def f() -> int:
        return later

    empty = fingerprint(f)
    later = 1
    assert fingerprint(f) != empty


def test_it_does_not_change_when_values_have_been_pickled() -> None:
    before = fingerprint(use_bird)
    pickle.dumps(Bird())
    assert fingerprint(use_bird) == before


def test_it_is_the_same_in_every_process() -> None:
    code = """
        from lokki.source import fingerprint

        def f(x, kinds=frozenset({"owl", "jay", "tit"})):
            return x in {"wren", "crow", "robin"}

        print(fingerprint(f).hex(), list({"owl", "jay", "tit", "wren", "crow"}))
    """
    (made, words), (same, others) = (printed(code, seed).split(maxsplit=1) for seed in ("1", "2"))
    assert words != others
    assert made == same


class Bird:
    def __init__(self) -> None:
        self.wings = 2


def use_bird() -> Bird:
    return Bird()


def printed(code: str, seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
