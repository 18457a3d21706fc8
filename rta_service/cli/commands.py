"""All subcommands; importing this module hangs them into the command tree.

Commands import what only they need when they run: a decision worker is started through the same
tree and must not carry DuckDB, and `rta --version` should answer at once.
"""

from rta_service.cli import (
    control,
    control_bench,
    decisions,
    demo,
    events,
    models,
    profiles,
    push,
    registry,
    release,
    rollout,
    serve,
    strategies,
    tokens,
    trials,
    validate,
)

__all__ = [
    "control",
    "control_bench",
    "decisions",
    "demo",
    "events",
    "models",
    "profiles",
    "push",
    "registry",
    "release",
    "rollout",
    "serve",
    "strategies",
    "tokens",
    "trials",
    "validate",
]
