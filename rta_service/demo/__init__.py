"""The main job end to end on a simulated marketplace, with the real commands' code."""
