"""Say clearly what this machine lacks before anything is installed."""

import ctypes
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the message is for people on an older interpreter
    sys.exit(
        f"rta-service needs Python 3.11 or newer; this is {sys.version.split()[0]}.\n"
        "Name another interpreter: make demo PYTHON=python3.12"
    )
try:
    ctypes.CDLL("libgomp.so.1" if sys.platform == "linux" else "libomp.dylib")
except OSError:
    sys.exit(
        "LightGBM's system library (OpenMP) is missing.\n"
        "Debian, Ubuntu: apt-get install libgomp1; Fedora: dnf install libgomp; macOS: brew install libomp"
    )
try:
    import ensurepip  # noqa: F401 - only whether it is there matters
except ImportError:
    sys.exit(
        "Python's venv module is incomplete here. Debian, Ubuntu: apt-get install python3-venv"
    )
