"""Numbers and struct layouts of the two WASI snapshots. Pure data: no I/O, no state."""
