"""What a run looks at in a store."""
