"""What the API answers to: each module has a router; nothing is decided here, `service` does it."""
