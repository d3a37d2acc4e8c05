"""Results as a surface shows them: with their notes and next steps as text."""

from __future__ import annotations

from sora_mcp.core.description import Description
from sora_mcp.core.results import ListedVideo, Submission, Video, VideoList


class PublishedSubmission(Submission):
    """A submission as a surface shows it."""

    notes: list[str] = []  # type: ignore[assignment]
    next_step: str


class PublishedVideo(Video):
    """A video as a surface shows it."""

    next_step: str


class PublishedDescription(Description):
    """A gateway as a surface shows it."""

    problems: list[str] = []  # type: ignore[assignment]
    next_step: str | None = None


class PublishedListedVideo(ListedVideo):
    """One line of a list as a surface shows it; an agent sees `request_id` only if there is no other id."""

    request_id: str | None = None  # type: ignore[assignment]


class PublishedVideoList(VideoList):
    """A list as a surface shows it."""

    videos: list[PublishedListedVideo]  # type: ignore[assignment]
    next_step: str | None = None
