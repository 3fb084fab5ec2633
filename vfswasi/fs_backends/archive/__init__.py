"""What the archive backends are made of: where the bytes come from, the tree of names, the members' contents."""
