"""A process: the signals that end it, and how it serves HTTP."""
