"""Running one step: what a deployed function carries too, so nothing here imports what a function does not need."""
