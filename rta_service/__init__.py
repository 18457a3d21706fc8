"""Answer ad platforms from user value, predictions and oCPX bids."""

__version__ = "0.1.0"
