"""A decision, in the order of the request's way; read pipeline.py first."""
