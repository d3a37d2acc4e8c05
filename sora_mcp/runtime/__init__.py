"""The process itself: shutdown signals, and serving HTTP."""
