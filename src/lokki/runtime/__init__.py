"""Running one step: the part of lokki that a deployed function carries. It imports nothing that a function does not need."""
