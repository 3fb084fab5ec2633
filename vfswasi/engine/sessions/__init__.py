"""Instances that stay between calls, and copies of them."""
