"""What a run looked at, as values."""
