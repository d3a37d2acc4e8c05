"""The unit of time of every request and reply. Imports nothing heavy."""

from __future__ import annotations

FPS = 30
"""Frames per second of every video (create page: 150 frames = 5 s, 300 = 10 s)."""
