"""The json platform: our own contract for callers without one."""
