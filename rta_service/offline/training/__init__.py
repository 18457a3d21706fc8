"""Datasets as of the impression, LightGBM heads, calibration, manifests."""
