"""What the caller holds: a sandbox, a run of it, its result; `WASI` for stores that the user made."""
