"""Changes as a unified diff."""
