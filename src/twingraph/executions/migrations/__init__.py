"""How older databases become what `schema` says now; read by Alembic, and only when a database is older."""
