"""Indexes of vectors: one that is embedded, Qdrant and pgvector, which all mean the same by a filter.

`values` checks what is given, `where` reads a filter, `index` says what an index does, and `opening` finds the one that
is meant. `embedded` keeps vectors on this machine and stands on `exact` and `graph`, which find the nearest.
"""
