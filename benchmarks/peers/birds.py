"""A whole flow, started as a script: a list of three, a map, a join."""

from __future__ import annotations

from lokki import flow, main, step


@step
def get_birds() -> list[str]:
    return ["goose", "duck", "seagull"]


@step
def flap_bird(bird: str) -> str:
    return f"flappy {bird}"


@step
def join_birds(birds: list[str]) -> str:
    return ", ".join(birds)


@flow
def birds_flow():
    return get_birds().map(flap_bird).agg(join_birds)


if __name__ == "__main__":
    main(birds_flow)
