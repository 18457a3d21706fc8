"""What is computed from history."""
