"""The execution graph: every execution, its nodes and what led to what, kept in SQL.

`recorder` hears the events of a run and writes them; `repository` has all SQL that writes or reads single things,
`lineage` and `statistics` that which asks about many. `schema` says what the tables are, `database` opens them.
"""
