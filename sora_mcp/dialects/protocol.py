"""What a dialect is: how one kind of upstream is spoken to, and how its answers are read. Values only, no I/O.

To add one: a package beside `sora` with a class that has the methods of `Dialect`, a class method `configured` that
makes it from the settings, and a line in `sora_mcp.dialects.DIALECTS`. Say what it takes as `Capabilities`; refuse in
`check` what its upstream has no words for (`CannotExpress`), before anything is sent. In `read_created` raise Refused
only where the upstream's sources say that nothing was created; whatever stands in no list is OutcomeUnknown, since
it may have been paid for. Read addresses by `schemes` alone. Import no other dialect. `sora_mcp.dialects.replies` reads
JSON, headers and pages for all of them; `tests/support/reply_shapes.py` shows how to hold one to its replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.replies import Reply

WEB = frozenset({"http", "https"})
"""The schemes of addresses that every connection opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request as a value: the gateway adds its address and the key.

    `path` begins with a slash and is percent-encoded. `json` is the body; or `files` are the parts of a form, each a
    name → file name and content.
    """

    method: Literal["GET", "POST"]
    path: str
    json: Mapping[str, Any] | None = None
    files: Mapping[str, tuple[str, bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The task that came of a create, and further ids that stood beside its own in the answer."""

    task_id: str
    other_ids: tuple[str, ...] = ()


class CannotExpress(InvalidInput):
    """The upstream has no words for a part of the request: `field`, `why`, and what can be asked for `instead`."""

    def __init__(self, field: str, why: str, instead: str = "") -> None:
        super().__init__([Problem(field, why, instead)])


class Dialect(Protocol):
    """How one kind of upstream is spoken to. Each call has its reader; readers raise GatewayError and nothing else."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for here, and what it costs."""

    def check(self, request: VideoRequest) -> None:
        """Raise InvalidInput naming everything that must not be sent, or CannotExpress."""

    def create(self, request: VideoRequest) -> Call:
        """The paid call for a request that has passed `check`. The ledger keeps the request, not this."""

    def read_created(self, reply: Reply) -> Created:
        """The task. Raises Refused where nothing was created, OutcomeUnknown wherever a job may exist."""

    def query(self, task_id: str) -> Call:
        """The free call that says how a task stands. `task_id` must be `is_id`."""

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
        """How it stands; of its videos' addresses those that have one of `schemes`.

        Raises NotFound, Refused or BadReply.
        """

    def upload(self, name: str, content: bytes) -> Call:
        """The free call that makes an image public."""

    def read_uploaded(self, reply: Reply) -> str:
        """The image's public address. Raises Refused or BadReply."""

    def models(self) -> Call:
        """The free call that shows whether the key is accepted."""

    def read_models(self, reply: Reply) -> list[str]:
        """The ids of the models. Raises Refused or BadReply."""
