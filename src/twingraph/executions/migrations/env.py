"""Where Alembic begins: it works in the transaction that `database` has open."""

from __future__ import annotations

from alembic import context

from twingraph.executions.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
