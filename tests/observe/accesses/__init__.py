"""What a run looked at."""
