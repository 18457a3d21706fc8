"""What comes back: events taken in, and what each of their consumers makes of them."""
