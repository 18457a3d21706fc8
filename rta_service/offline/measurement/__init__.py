"""What a strategy brought: lift and effect reports will live here."""
