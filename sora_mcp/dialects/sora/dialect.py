"""The Sora "official format" as a dialect: its paths, and which module reads which answer."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from sora_mcp.config.settings import Settings
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.ids import path_segment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.protocol import WEB, Call, Created
from sora_mcp.dialects.replies import Reply
from sora_mcp.dialects.sora import creates, free, tasks
from sora_mcp.dialects.sora.body import SourcePlacement, body
from sora_mcp.dialects.sora.fields import state_of
from sora_mcp.dialects.sora.tables import CAPABILITIES

CREATE_PATH = "/sora/v1/videos"
FILES_PATH = "/v1/files"
MODELS_PATH = "/v1/models"


class Sora(Struct, frozen=True):
    """The documented format. `source_placement`: the place of a remix's source (setting SORA_SDEDIT_SOURCE)."""

    capabilities: Capabilities = CAPABILITIES
    source_placement: SourcePlacement = "nested"

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """Make the format with the sizes, lengths and limits that the settings add for this gateway."""
        capabilities = CAPABILITIES.extended(
            settings.extra_sizes,
            settings.extra_frames,
            max_variants=settings.max_variants,
            max_prompt=settings.max_prompt_length,
        )
        return cls(capabilities, settings.sdedit_source)

    def check(self, request: VideoRequest) -> None:
        """Raise InvalidInput naming everything that must not be sent."""
        request.check(self.capabilities)

    def create(self, request: VideoRequest) -> Call:
        """Return the create (create page)."""
        return Call(method="POST", path=CREATE_PATH, json=body(request, self.source_placement))

    def read_created(self, reply: Reply) -> Created:
        """Return the task. Raises Refused if nothing was created, OutcomeUnknown if a job may exist."""
        return creates.read_created(reply)

    def query(self, task_id: str) -> Call:
        """Return the query of one task (query page). `task_id` must be `is_id`."""
        return Call(method="GET", path=f"{CREATE_PATH}/{path_segment(task_id)}")

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
        """Return the task. Raises NotFound, Refused or BadReply."""
        return tasks.read_task(reply, task_id, schemes=schemes)

    def knows_state(self, word: str) -> bool:
        """Whether a word for a state is known."""
        return state_of(word) is not None

    def upload(self, name: str, content: bytes) -> Call:
        """Return the upload of an image (a sibling's page)."""
        return Call(method="POST", path=FILES_PATH, files={"file": (name, content)})

    def read_uploaded(self, reply: Reply) -> str:
        """Return the image's public address. Raises Refused or BadReply."""
        return free.read_uploaded(reply)

    def models(self) -> Call:
        """Return the call for the list of models (a sibling's page)."""
        return Call(method="GET", path=MODELS_PATH)

    def read_models(self, reply: Reply) -> list[str]:
        """Return the ids of the models. Raises Refused or BadReply."""
        return free.read_models(reply)
