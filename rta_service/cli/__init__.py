"""The `rta` command: one function a subcommand, exit codes that mean something.

0 done · 1 a self-check did not hold · 2 wrong input or use · 3 the store or a model failed
"""

from rta_service.cli.app import app

__all__ = ["app"]
