"""What a dialect is: how one kind of upstream is spoken to, and how its answers are read. Values only, no I/O.

To add one: a package beside `sora` with a class that has the methods of `Dialect`, a class method `configured` that
makes it from the settings, and a line in `sora_mcp.dialects.DIALECTS`. Say what it takes as `Capabilities`; refuse in
`check` what its upstream has no words for (`CannotExpress`), before anything is sent. In `read_created` raise Refused
only where the upstream's sources say that nothing was created; whatever stands in no list is OutcomeUnknown, since
it may have been paid for. Prices that are no table of sizes and lengths are `Pricing`; what a job cost in the end is
`Task.cost`. Read addresses by `schemes` alone. Import no other dialect. `sora_mcp.dialects.replies` reads
JSON, headers and pages for all of them; `tests/support/reply_shapes.py` shows how to hold one to its replies.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol, cast, runtime_checkable

from msgspec import Struct, field

from sora_mcp.core.capabilities import Adjustment, Capabilities
from sora_mcp.core.cost import Estimate
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import State, Task
from sora_mcp.dialects.replies import Reply

WEB = frozenset({"http", "https"})
"""The schemes of addresses that every connection opens."""


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request as a value: the gateway adds its address and the key.

    `path` begins with a slash and is percent-encoded. `json` is the body; or `form` and `files` are the fields and the
    files of a form (multipart), each file a name → file name, content and, where it must be said, its type.
    """

    method: Literal["GET", "POST"]
    path: str
    json: Mapping[str, Any] | None = None
    files: Mapping[str, tuple[str, bytes] | tuple[str, bytes, str]] | None = None
    form: Mapping[str, str] | None = None

    @property
    def shown(self) -> dict[str, Any] | None:
        """The body as a person or an agent is shown it; of a file its name."""
        if self.form is None:
            return None if self.json is None else dict(self.json)
        return {**self.form, **{name: file[0] for name, file in (self.files or {}).items()}}


class Created(Struct, frozen=True):
    """The task that came of a create, and further ids that stood beside its own in the answer."""

    task_id: str
    other_ids: tuple[str, ...] = ()


class CannotExpress(InvalidInput):
    """The upstream has no words for a part of the request: `field`, `why`, and what can be asked for `instead`; `more`
    such problems are named with it."""

    def __init__(self, field: str, why: str, instead: str = "", more: Sequence[Problem] = ()) -> None:
        super().__init__([Problem(field, why, instead), *more])


class Picture(Struct, frozen=True):
    """An image that is sent along with a request. One that only shows what would be sent has a name and no content."""

    name: str
    content: bytes
    mime_type: str

    @property
    def as_address(self) -> str:
        """The image as a `data:` address (RFC 2397), for a body that takes addresses; without content, its name."""
        return f"data:{self.mime_type};base64,{b64encode(self.content).decode()}" if self.content else self.name


class Measures(Struct, frozen=True):
    """What a video's file really holds: pixels, frames, and frames per second."""

    width: int
    height: int
    n_frames: int
    fps: float


class Need(Struct, frozen=True):
    """What has to be got of an earlier video before a request that is made from it can be sent.

    `item` of `inpaint_items` names the video, None the source of a remix. Of it is needed an `address` from which
    everybody can fetch it, its `file` with its measures, or the picture of one `frame`: its index, or None for the
    last. A file or a picture has `max_bytes` at most.
    """

    item: int | None
    kind: Literal["address", "file", "frame"]
    frame: int | None = None
    max_bytes: int = 50_000_000


class SourceVideo(Struct, frozen=True, kw_only=True):
    """The video that a remix is made from. `name` stands for it in what is shown; `measures`, as far as they are known;
    `content` and `address` are there where they were needed and got."""

    name: str
    measures: Measures | None = None
    content: bytes = b""
    address: str = ""

    @property
    def as_address(self) -> str:
        """Its address; where that only shows what would be sent, its name."""
        return self.address or self.name


class Plan(Struct, frozen=True):
    """What becomes of a request on its way: what was `adjusted`; the fields whose values are `left_open`, for the
    upstream to choose; the `model` that is named. `identity`: what, besides the request, tells it from others. `sent`:
    what is sent for its size and length, and all else that is not the caller's, where that may change. `needs`: what
    has to be got of earlier videos first: pictures come to `create` as images, of the remix's source the rest."""

    adjusted: tuple[Adjustment, ...] = ()
    left_open: frozenset[str] = frozenset()
    model: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    sent: Mapping[str, Any] | None = None
    needs: tuple[Need, ...] = ()


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
        """How it stands; of its videos' addresses those that have one of `schemes`. An address without a scheme is a
        path at the gateway's own, fetched with the key.

        Raises NotFound, Refused or BadReply.
        """

    def knows_state(self, word: str) -> bool:
        """Whether the meaning of an upstream's word for a state, `Task.gateway_state`, is known."""

    def upload(self, name: str, content: bytes) -> Call:
        """The free call that makes an image public."""

    def read_uploaded(self, reply: Reply) -> str:
        """The image's public address. Raises Refused or BadReply."""

    def models(self) -> Call:
        """The free call that shows whether the key is accepted."""

    def read_models(self, reply: Reply) -> list[str]:
        """The ids of the models. Raises Refused or BadReply."""


@runtime_checkable
class Adjusting(Protocol):
    """What a dialect has besides, where it sends something else than what was asked for, or images along with it."""

    def plan(self, request: VideoRequest, source: SourceVideo | None = None) -> Plan:
        """What becomes of a request that has passed `check`; `source`: what is known of the video that it remixes.

        The more is known, the more exactly it says what is sent; `identity` and `needs` are the same.
        """

    def create(
        self, request: VideoRequest, images: Mapping[int, Picture] | None = None, source: SourceVideo | None = None
    ) -> Call:
        """As `Dialect.create`; `images`, by item, are sent along where `Capabilities.image_bytes` says so, and what the
        plan needs of earlier videos. Raises CannotExpress where that turns out to be more than can be sent."""


@runtime_checkable
class Catalogued(Protocol):
    """What a dialect has besides, where its upstream lists what each of its models takes: that must be known before
    anything is checked."""

    def catalogue(self) -> Call:
        """The free call for that list."""

    def read_catalogue(self, reply: Reply) -> str:
        """The list as a text to keep. Raises Refused or BadReply, also for one that names no model."""

    def check(self, request: VideoRequest) -> None:
        """As `Dialect.check`."""

    def learn(self, text: str) -> None:
        """Know what a list says that was kept. Raises ValueError where the text is none."""

    def capabilities_of(self, request: VideoRequest) -> Capabilities:
        """What the model of a request takes. Raises InvalidInput for one that is not listed."""


@runtime_checkable
class Pricing(Protocol):
    """What a dialect has besides, where its prices are no table of sizes and lengths."""

    def estimate(self, request: VideoRequest) -> Estimate | None:
        """What a request that has passed `check` will cost, in `Capabilities.unit`; None where no price is known."""


class ListedTask(Struct, frozen=True):
    """One task of an upstream's own list. `created_at`: unix seconds; `prompt` is data."""

    task_id: str
    created_at: float
    prompt: str
    state: State


@runtime_checkable
class Listing(Protocol):
    """What a dialect has besides, where its upstream may list tasks (`Capabilities.can_list`)."""

    def list(self) -> Call:
        """The free call that lists the newest tasks."""

    def read_list(self, reply: Reply) -> Sequence[ListedTask]:
        """The tasks of which it can be read when they were made. Raises Refused or BadReply."""


@cache
def _offers(kind: type[Dialect], more: type) -> bool:
    """Whether a kind of dialect has what a protocol asks for: asked once, since that looks at each method."""
    return issubclass(kind, more)


def capabilities_of(dialect: Dialect, request: VideoRequest) -> Capabilities:
    """What can be asked for with the model of a request. Raises InvalidInput for one that is not listed."""
    if not _offers(type(dialect), Catalogued):
        return dialect.capabilities
    return cast("Catalogued", dialect).capabilities_of(request)


def plan_of(dialect: Dialect, request: VideoRequest, source: SourceVideo | None = None) -> Plan:
    """What becomes of a request that has passed `check`: nothing, where a dialect says everything as it is."""
    return cast("Adjusting", dialect).plan(request, source) if _offers(type(dialect), Adjusting) else Plan()


def estimate_of(dialect: Dialect, request: VideoRequest) -> Estimate | None:
    """What a request that has passed `check` will cost; None where no price is known."""
    if _offers(type(dialect), Pricing):
        return cast("Pricing", dialect).estimate(request)
    cost = request.cost(dialect.capabilities)
    return None if cost is None else Estimate(cost)


def create_of(
    dialect: Dialect, request: VideoRequest, images: Mapping[int, Picture], source: SourceVideo | None = None
) -> Call:
    """The paid call, with what is sent along."""
    if not _offers(type(dialect), Adjusting):
        return dialect.create(request)
    return cast("Adjusting", dialect).create(request, images, source)
