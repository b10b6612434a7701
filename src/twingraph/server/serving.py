"""`twingraph serve`: one process that answers, one that forks executions, and the order in which they begin and end.

The port is taken first, so that a mistake is told at once. The nursery is forked while this process has one thread and
has not loaded what only answering needs; it imports the files meanwhile. Ctrl-C lets what runs finish for a while; what
does not is interrupted. A second Ctrl-C ends at once: what ran is found by the next server.
"""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence

from lokki.frozen import frozen
from twingraph.errors import TwinGraphError
from twingraph.executions.recorder import open_recorder
from twingraph.server import nursery
from twingraph.server.channel import Message
from twingraph.server.exchange import Exchange
from twingraph.server.launching import Launch, Launching
from twingraph.server.processes import Processes, Publish
from twingraph.settings import load_settings

GRACE = 10.0
"""Seconds that executions have to finish when the server is asked to end."""

_CHANGED = 0.5  # seconds between two looks whether a file changed


@frozen
class Options:
    """What `twingraph serve` was told."""

    files: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    db: str | None = None
    home: str | None = None
    workers: int = 0
    reload: bool = False
    insecure: bool = False
    launch: Launch | None = None


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `say` gets what people are told."""
    gc.disable()  # while there is nothing but imports
    settings = load_settings(options.home, options.db)
    url, home = settings.database, settings.home
    launching = None if options.launch is None else Launching(options.launch, options.files, url)
    listening = _listening(options.host, options.port)
    os.environ.update(TWINGRAPH_DB=url, TWINGRAPH_HOME=home)
    graph = open_recorder(url).repository()
    begun = nursery.begun(options.files, url, home)  # from here on, what only answering needs is imported
    from twingraph.server.answering import Answering

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("twingraph").setLevel(logging.INFO)
    processes = Processes(
        graph, lambda: nursery.started(options.files, url, home), begun, most=options.workers, launching=launching
    )
    here = _is_loopback(options.host)
    answering = Answering(processes, settings, GRACE, here and not options.insecure)
    if not (options.insecure or answering.asks_who or here):
        raise TwinGraphError(
            f"Whoever reaches {options.host} could run code here: the server listens beyond this machine only with "
            "API keys (twingraph keys create, or TWINGRAPH_API_KEYS), or with --insecure."
        )
    processes.start()
    gc.freeze()
    gc.enable()
    over = threading.Event()
    if options.reload:
        threading.Thread(target=_watch, args=(options.files, processes, over), daemon=True).start()
    _say_what(options, listening, processes, say)
    try:
        answering.run(listening)
    finally:
        over.set()
    if not processes.wait(0):
        say("Ended at once; executions that were running are found by the next server.")


def connected(processes: Processes, hear: Publish) -> None:
    """Let `hear` get what happens in executions, wherever they run; with PostgreSQL, that may be elsewhere."""
    processes.publish = hear
    if processes.graph.engine.dialect.name != "postgresql":
        return
    others = Exchange(processes.graph, processes.name, processes.look, processes.stop_here, hear)

    def publish(execution: str, message: Message) -> None:
        hear(execution, message)
        others.event(execution, message)

    processes.publish, processes.others = publish, others
    others.start()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    """The socket that is listened on."""
    if not 0 <= port <= 65535:
        raise TwinGraphError(f"--port is 0 to 65535, not {port}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(2048)
    except OSError as error:
        hint = ": is another server running, or choose another --port" if "in use" in str(error) else ""
        raise TwinGraphError(f"The server cannot listen on {host}:{port} ({error.strerror}){hint}.") from error
    return made


def _watch(files: Sequence[str], processes: Processes, over: threading.Event) -> None:
    """Have what is served imported anew whenever a file changes."""
    before = _times(files)
    while not over.wait(_CHANGED):
        now = _times(files)
        if now != before:
            before = now
            processes.reload()


def _times(files: Sequence[str]) -> list[int]:
    found = []
    for each in files:
        try:
            found.append(os.stat(each).st_mtime_ns)
        except OSError:
            found.append(0)
    return found


def _say_what(options: Options, listening: socket.socket, processes: Processes, say: Callable[[str], None]) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    names = [each.name for each in processes.catalog.workflows]
    say(f"TwinGraph at http://{shown}:{port} (API under /api); Ctrl-C ends it.")
    if names:
        say(f"Serving {', '.join(names)}.")
    if options.launch is not None:
        say(f"Executions run as jobs on {options.launch.platform}, {processes.most} at most at once.")
    if options.insecure and not _is_loopback(options.host):
        say("Whoever reaches this address can run code on this machine.")
