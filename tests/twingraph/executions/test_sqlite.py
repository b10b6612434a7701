"""The execution graph in SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.migrations import MigrationsContract
from tests.contracts.repository import RepositoryContract


class TestSqlite(RepositoryContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'new folder' / 'graph.db'}"


class TestSqliteMigrations(MigrationsContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'graph.db'}"
