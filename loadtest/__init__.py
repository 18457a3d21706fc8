"""Load tests: locust scenarios for platforms' traffic, and the capacity benchmark."""
