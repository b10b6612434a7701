"""`@frozen` gives what `@dataclass(frozen=True)` gives."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any, ClassVar

import pytest

from lokki.frozen import field, frozen, named, replace


@frozen
class Bird:
    kind: ClassVar[str] = "animal"
    name: str
    weight: float = 1.0
    tags: list[str] = field(default_factory=list)
    seen: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(self.name)


@frozen
class Goose(Bird):
    honks: bool = True


@frozen(eq=False)
class Nest:
    size: int = 1


def test_values_are_made_by_place_and_name_with_defaults_of_their_own() -> None:
    bird = Bird("gull", weight=2.0)
    assert (bird.name, bird.weight, bird.tags, bird.seen, bird.kind) == ("gull", 2.0, [], 0, "animal")
    assert Bird("a").tags is not Bird("a").tags
    assert named(Goose("g", honks=False)) == {"name": "g", "weight": 1.0, "tags": [], "seen": 0, "honks": False}


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ((), {}, "Bird needs a value for 'name'"),
        (("a",), {"wings": 2}, "Bird has no field 'wings'"),
        (("a",), {"name": "b"}, "Bird got two values for 'name'"),
        ((1, 2, [], 4, 5), {}, "Bird takes 4 values, but 5 are given"),
    ],
)
def test_wrong_values_are_a_type_error(args: tuple[Any, ...], given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Bird(*args, **given)


def test_a_value_checks_itself_and_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="gull"):
        Bird("gull", -1)
    bird = Bird("gull")
    with pytest.raises(dataclasses.FrozenInstanceError, match="Bird is frozen: 'name' cannot be changed"):
        bird.name = "owl"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="'weight'"):
        del bird.weight


def test_equal_values_are_equal_and_hash_alike() -> None:
    @frozen
    class Other:
        size: int = 1

    assert Bird("a", tags=["x"]) == Bird("a", tags=["x"], seen=5)
    assert Bird("a") != Bird("b")
    assert Bird("a") != Goose("a")
    assert hash(Other(2)) == hash(Other(2))
    assert len({Other(2), Other(2), Other(3)}) == 2
    assert Nest() != Nest()
    assert len({Nest(), Nest()}) == 2


def test_the_standard_library_takes_them_for_dataclasses() -> None:
    bird = Bird("a", tags=["x"], seen=3)
    assert dataclasses.is_dataclass(bird)
    assert dataclasses.asdict(bird) == {"name": "a", "weight": 1.0, "tags": ["x"], "seen": 3}
    assert dataclasses.replace(bird, name="b") == replace(bird, name="b") == Bird("b", tags=["x"])
    assert [each.name for each in dataclasses.fields(Goose)] == ["name", "weight", "tags", "seen", "honks"]


def test_they_show_themselves_are_matched_and_pickled() -> None:
    assert repr(Goose("a")) == "Goose(name='a', weight=1.0, tags=[], honks=True)"
    assert str(inspect.signature(Goose)).startswith("(name: 'str', weight: 'float' = 1.0, tags: 'list[str]' = []")
    assert pickle.loads(pickle.dumps(Bird("a", 2.0))) == Bird("a", 2.0)
    match Bird("a", 2.0):
        case Bird(name, weight):
            assert (name, weight) == ("a", 2.0)
