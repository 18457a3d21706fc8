"""Judges a model on trial by evidence that may be looked at any time: pure, no input, no output."""
