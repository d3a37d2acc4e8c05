"""Entry point of `sora-mcp` and `python -m sora_mcp`; Ctrl-C exits the same way while modules are still loading."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and exit."""
    try:
        from sora_mcp.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:  # all output is written: Ctrl-C while Python shuts down must not print a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
