"""Events to user records: features, thresholds, tiers, snapshot."""
