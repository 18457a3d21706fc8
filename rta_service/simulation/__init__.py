"""The wind tunnel: people, their events and the platforms that ask about them."""
