"""The smallest flow: a list, a step for each of its items, and a step that puts the results together.

Try:
    python examples/birds.py run
    python examples/birds.py graph
"""

from __future__ import annotations

from lokki import flow, main, step


@step
def get_birds():
    return ["goose", "duck", "seagull"]


@step
def flap_bird(bird):
    return f"flappy {bird}"


@step
def join_birds(birds):
    return ", ".join(birds)


@flow
def birds_flow():
    return get_birds().map(flap_bird).agg(join_birds)


if __name__ == "__main__":
    main(birds_flow)
