"""Which ad a conversion is owed to: a plain model, and the same kept up event by event."""
