"""What happened afterwards: events and feedback will live here."""
