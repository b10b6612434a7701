"""`twingraph keys`: who may use a server."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from twingraph.commands.shared import Command, duration, local_time, print_json, print_table
from twingraph.errors import GraphError
from twingraph.settings import load_settings

if TYPE_CHECKING:
    from twingraph.executions.keys import Key
    from twingraph.executions.repository import Repository

_SCOPES = ("read", "run", "author", "admin")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("create", "list", "revoke"), help="what to do")
    parser.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="what the key is for; of revoke also its id"
    )
    parser.add_argument("--scope", choices=_SCOPES, default="run", help="how much it may do; default: run")
    parser.add_argument(
        "--expires", type=duration, metavar="TIME", help="how long it is valid: 12h, 30d; default: for ever"
    )
    parser.add_argument(
        "--db", metavar="URL", help="the server's database; default: TWINGRAPH_DB, else TWINGRAPH_HOME's"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> None:
    from twingraph.executions.repository import Repository

    graph = Repository(load_settings(database=options.db).database)
    try:
        {"create": _create, "list": _list, "revoke": _revoke}[options.action](graph, options)
    finally:
        graph.close()


def _create(graph: Repository, options: argparse.Namespace) -> None:
    from twingraph.executions import keys

    if not options.name:
        raise GraphError("A key needs a name that says what it is for: twingraph keys create ci --scope run.")
    expires = time.time() + options.expires if options.expires else None
    made, text = keys.create(graph, options.name, options.scope, expires)
    if options.json:
        print_json({"id": made.id, "name": made.name, "scope": made.scope, "key": text, "expires_at": expires})
        return
    print(text)
    print(f"Key {made.id} ({made.name}, {made.scope}). It is shown this once; send it in X-API-Key.", file=sys.stderr)


def _list(graph: Repository, options: argparse.Namespace) -> None:
    from twingraph.executions import keys

    found = keys.listed(graph)
    if options.json:
        for each in found:
            print_json({name: value for name, value in each._asdict().items() if name != "digest"})
        return
    rows = [
        (each.id, each.name, each.scope, local_time(each.created_at), local_time(each.expires_at), _state(each))
        for each in found
    ]
    print_table(("ID", "NAME", "SCOPE", "CREATED", "EXPIRES", "STATE"), rows)


def _state(key: Key) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at < time.time() else "valid"


def _revoke(graph: Repository, options: argparse.Namespace) -> None:
    from twingraph.executions import keys

    if not keys.revoke(graph, options.name):
        raise GraphError(f"There is no key {options.name!r} that could be revoked; twingraph keys list names them.")
    print(f"Key {options.name} is not valid any more; servers notice within seconds.")


COMMAND = Command(
    "A key is sent in X-API-Key. Its scope says how much it may do: read; run (also ask for executions and stop\n"
    "them); author (also store workflows, which is to run any code); admin. As soon as there is a key, the server\n"
    "wants one from everybody.",
    ("create ci --scope run", "create laptop --scope author --expires 30d", "list", "revoke ci"),
    _options,
    _run,
)
