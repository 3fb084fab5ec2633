"""What a run has come to, as its caller holds it."""
