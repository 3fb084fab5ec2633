"""The fast path inside wasm: that nobody can tell it from Python, and that nothing gets lost."""
