"""Where state lives: Redis, the embedded server, snapshots, releases, model folders."""
