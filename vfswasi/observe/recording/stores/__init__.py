"""Layers that note what a store says, and a store that says it again."""
