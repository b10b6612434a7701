"""The execution graph in PostgreSQL, a real one."""

from __future__ import annotations

import pytest

from tests.contracts.migrations import MigrationsContract
from tests.contracts.repository import RepositoryContract


class TestPostgres(RepositoryContract):
    @pytest.fixture
    def url(self, postgres: str) -> str:
        return postgres


class TestPostgresMigrations(MigrationsContract):
    @pytest.fixture
    def url(self, postgres: str) -> str:
        return postgres
