"""`python -m rta_service` and the `rta` script."""

from rta_service.cli import commands  # noqa: F401 - importing it hangs the subcommands in
from rta_service.cli.app import main as _run


def main() -> None:
    """Run the command line."""
    _run()


if __name__ == "__main__":
    main()
