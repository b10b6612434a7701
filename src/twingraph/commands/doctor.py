"""`twingraph doctor`: what is available here, and why not."""

from __future__ import annotations

import argparse

from twingraph.commands.shared import Command, print_json


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")


def _run(options: argparse.Namespace) -> None:
    from twingraph.doctor import findings

    for each in findings():
        if options.json:
            print_json({"name": each.name, "usable": each.usable, "text": each.text})
        else:
            print(f"{'ok' if each.usable else '--'}  {each.name:<20}  {each.text}", flush=True)


COMMAND = Command(
    "Looks at each platform as a component on it would find it now, at the libraries of built-in components, at the\n"
    "execution graph and at git.\n"
    "A platform that cannot be used is no error: only components that are placed on it need it.",
    ("", "--json"),
    _options,
    _run,
)
