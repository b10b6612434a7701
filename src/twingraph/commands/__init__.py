"""The commands of `twingraph`, a module each; `twingraph.cli` has the table of them."""
