"""`VectorSearch`: the nearest of the vectors that an index keeps, and what puts them there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from twingraph.components.built_in import BuiltIn, needed
from twingraph.errors import ComponentError

if TYPE_CHECKING:
    from twingraph.components.vectors.index import Index

Operation: TypeAlias = Literal["search", "add", "delete", "count"]

_TOP_K = 10


class VectorSearch(BuiltIn):
    """Finds the vectors of an index that are nearest to another; also adds, deletes and counts them.

    Args:
        index: the name of the index.
        operation: what a call does: search, add, delete or count. A setting, so that who may run a workflow cannot make
            a search a deletion.
        location: where the index is: a folder, or the URL of a Qdrant (http://, https://, qdrant://) or of a PostgreSQL
            with pgvector (postgresql://). Without one, the folder `vectors` of this machine's TWINGRAPH_HOME.
        metric: how vectors are compared: cosine, dot or l2. Without one as the index does; a new one by cosine.
        api_key: the key of a Qdrant server.
        approximate: whether a search may miss a neighbour to be faster. Without it, only in a large index.
    """

    extra = "vectors"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        index: str,
        operation: Operation = "search",
        location: str | None = None,
        metric: Literal["cosine", "dot", "l2"] | None = None,
        api_key: str | None = None,
        approximate: bool | None = None,
        **inputs: Any,
    ) -> None:
        super().__init__(config)
        self.index = index
        self.operation = operation
        self.location = location
        self.metric = metric
        self.api_key = api_key
        self.approximate = approximate

    def execute(
        self,
        embedding: Any = None,
        where: dict[str, Any] | None = None,
        top_k: int = _TOP_K,
        vectors: Any = None,
        ids: Any = None,
        metadata: Any = None,
    ) -> dict[str, Any]:
        """Do what the setting `operation` says, with the inputs that it has a use for.

        Args:
            embedding: to search: a vector, or a list of them.
            where: to search, delete or count: a filter such as {"color": "red", "price": {"<": 10}}.
            top_k: to search: how many results.
            vectors: to add: a list of vectors.
            ids: to add or delete: an id for each vector. Without ids, added vectors get new ones.
            metadata: to add: a dict for each vector.
        """
        match self.operation:
            case "search":
                return {"results": self.search(embedding, where=where, top_k=top_k)}
            case "add":
                added = self.add(vectors, ids=ids, metadata=metadata)
                return {"ids": added, "count": len(added)}
            case "delete":
                return {"count": self.delete(ids, where=where)}
            case "count":
                return {"count": self.count(where)}

    def search(self, embedding: Any, *, where: Mapping[str, Any] | None = None, top_k: int | None = None) -> Any:
        """The nearest vectors: for one, a list of {id, score, metadata}, best first; for a list, a list of such lists.

        The score is the cosine or the dot product, where more is nearer, or for l2 the distance, where less is.
        """
        with self._libraries():
            from twingraph.components.vectors.values import queries
            from twingraph.components.vectors.where import condition

            self._asked("embedding", embedding)
            wanted, many = queries(embedding)
            number = self.config.get("top_k", _TOP_K) if top_k is None else top_k
            if number < 1:
                raise ComponentError(f"VectorSearch: top_k is at least 1, not {number}.")
            found = self._index().search(wanted, number, condition(where))
        return found if many else found[0]

    def add(self, vectors: Any, *, ids: Any = None, metadata: Any = None) -> list[str]:
        """Keep vectors, each with an id and metadata; their ids. One whose id is there already takes its place."""
        with self._libraries():
            from twingraph.components.vectors.values import entries

            self._asked("vectors", vectors)
            made = entries(vectors, ids, _records(metadata))
            if made.ids:
                self._index().add(made)
        return list(made.ids)

    def delete(self, ids: Any = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Forget vectors by their ids, by a filter, or by both; how many there were. `where={}` forgets all."""
        with self._libraries():
            from twingraph.components.vectors.values import ids_of
            from twingraph.components.vectors.where import condition

            if ids is None and where is None:
                raise ComponentError("VectorSearch: say what to delete, with ids or where; where={} deletes all.")
            return self._index().delete(None if ids is None else ids_of(ids), condition(where))

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """How many vectors the index has, or has that fit a filter."""
        with self._libraries():
            from twingraph.components.vectors.where import condition

            return self._index().count(condition(where))

    def _asked(self, name: str, value: Any) -> None:
        if value is None:
            raise ComponentError(f"VectorSearch: give {name}=... to {'add' if name == 'vectors' else 'search'}.")

    def _libraries(self) -> Any:
        return needed(self.extra, type(self).__name__)

    def _index(self) -> Index:
        from twingraph.components.vectors.opening import opened

        location, api_key = self.revealed(self.location), self.revealed(self.api_key)
        return opened(self.index, location, self.metric, api_key, self.approximate)


def _records(metadata: Any) -> Any:
    """Metadata as dicts; a frame gives its rows, and so does what another component gave as a whole."""
    from twingraph.components.frames import records, table_in

    table = table_in(metadata)
    return table if table is None or isinstance(table, Mapping | list | tuple) else records(table, "metadata")
