"""Values too large for the database, as files by their content: the same value is kept once, whoever made it."""

from __future__ import annotations

import os
import uuid
from typing import Any

from lokki.codec import SEAL_SIZE, read_seal, seal_frame, unseal
from twingraph.errors import GraphError


class Objects:
    """The object files in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def keep(self, identity: str, frame: bytes) -> None:
        """Store a pickle under its digest; a file appears whole or not at all."""
        path = self._path(identity)
        if os.path.exists(path):
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        beside = f"{path}.{uuid.uuid4().hex[:8]}"
        try:
            with open(beside, "xb") as file:
                seal_frame(frame, file.write)
            os.replace(beside, path)
        finally:
            if os.path.exists(beside):
                os.unlink(beside)

    def load(self, identity: str) -> Any:
        """The value whose pickle has this digest."""
        try:
            with open(self._path(identity), "rb") as file:
                data = file.read()
        except OSError as error:
            raise GraphError(f"The recorded value {identity} is not on this machine ({error.strerror}).") from error
        seal = read_seal(data[-SEAL_SIZE:])
        if seal is None or seal.digest.hex() != identity:
            raise GraphError(f"The recorded value {identity} is damaged.")
        return unseal(data)

    def _path(self, identity: str) -> str:
        return os.path.join(self._folder, identity[:2], f"{identity[2:]}.pkl.gz")
