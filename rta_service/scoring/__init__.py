"""Models as things that score."""
