"""The business's words; imports nothing of ours."""
