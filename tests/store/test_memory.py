"""The store in memory keeps the contract."""

from __future__ import annotations

from typing import Any

import pytest

import lokki.store
from lokki.store import MemoryStore, open_store
from tests.contracts.store import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    def held(self, store: Any, key: str) -> bytes:
        return bytes(store._blobs[key])

    def spoil(self, store: Any, key: str, data: bytes) -> None:
        store._blobs[key] = data


def test_a_store_is_opened_by_its_kind() -> None:
    assert isinstance(open_store("memory"), MemoryStore)


def test_it_is_not_shared_with_other_processes() -> None:
    assert not MemoryStore().shared


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'lokki\.store' has no attribute 'MemoryStor'"):
        lokki.store.MemoryStor  # noqa: B018
