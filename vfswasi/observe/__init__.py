"""What a run did, as values."""
