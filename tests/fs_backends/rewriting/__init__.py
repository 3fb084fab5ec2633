"""Archives that are written anew from an old one and a list of differences."""
