"""`sora-mcp`, and `python -m sora_mcp`: Ctrl-C ends it in the same way while it is still being loaded."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line, and end the process."""
    try:
        from sora_mcp.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:  # all is said: while Python ends, Ctrl-C must show no traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
