"""Writes a forest as LightGBM's text from its arrays alone: no byte of an upload is in it."""

from rta_service.scoring.flat_forest import FlatForest


def canonical_text(forest: FlatForest) -> str:
    """Write a text that LightGBM loads and whose raw scores are the forest's to the last bit."""
    raise NotImplementedError
