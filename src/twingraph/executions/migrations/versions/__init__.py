"""The revisions of the execution graph's tables, in the order that each of them names."""
