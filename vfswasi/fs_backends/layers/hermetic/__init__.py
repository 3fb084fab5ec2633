"""What a store shows in a deterministic run."""
