"""The protocol of a dialect: how to form requests to one type of upstream, and how to read its answers. No I/O.

To add one: a package beside `sora` with a class that has the methods of `Dialect`, a class method `configured` that
makes it from the settings, and a line in `sora_mcp.dialects.DIALECTS`. Say what it takes as `Capabilities`; refuse in
`check` what its upstream cannot express (`CannotExpress`), before anything is sent. In `read_created` raise Refused
only if the upstream's sources say that nothing was created; everything that is not listed is OutcomeUnknown, since
it may have been paid for. Prices that are not a table of sizes and lengths are `Pricing`; what a job cost in the end is
`Task.cost`. Accept addresses by `schemes` alone. Import no other dialect. `sora_mcp.dialects.replies` reads
JSON, headers and pages for all of them; `tests/support/reply_shapes.py` shows how to test one against its replies.
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
"""The schemes of addresses that every connection can open."""


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request as a value: the gateway adds its address and the key.

    `path` begins with a slash and is percent-encoded. `json` is the body; or `form` and `files` are the fields and the
    files of a form (multipart), each file a name → file name, content and, if it is needed, its type.
    """

    method: Literal["GET", "POST"]
    path: str
    json: Mapping[str, Any] | None = None
    files: Mapping[str, tuple[str, bytes] | tuple[str, bytes, str]] | None = None
    form: Mapping[str, str] | None = None

    @property
    def display_body(self) -> dict[str, Any] | None:
        """The body to show to a person or an agent, with the name of each file in its place."""
        if self.form is None:
            return None if self.json is None else dict(self.json)
        return {**self.form, **{name: file[0] for name, file in (self.files or {}).items()}}


class Created(Struct, frozen=True):
    """The task that a create made, and further ids that the answer holds beside the task's own."""

    task_id: str
    other_ids: tuple[str, ...] = ()


class CannotExpress(InvalidInput):
    """The upstream cannot express a part of the request: `field`, `reason`, and what can be asked for `instead`; `more`
    such problems are reported with it."""

    def __init__(self, field: str, reason: str, instead: str, more: Sequence[Problem] = ()) -> None:
        super().__init__([Problem(field, reason, instead), *more])


class Picture(Struct, frozen=True):
    """An image that is sent with a request. In a preview of what would be sent it has a name and no content."""

    name: str
    content: bytes
    mime_type: str

    @property
    def as_address(self) -> str:
        """The image as a `data:` address (RFC 2397), for a body that takes addresses; without content, its name."""
        return f"data:{self.mime_type};base64,{b64encode(self.content).decode()}" if self.content else self.name


class Measurements(Struct, frozen=True):
    """What a video's file really holds: width and height in pixels, frames, and frames per second."""

    width: int
    height: int
    n_frames: int
    fps: float


class Need(Struct, frozen=True):
    """What has to be fetched from an earlier video before a request that is made from it can be sent.

    `item` is the index in `inpaint_items` of the video, None the source of a remix. Needed is a public `address` of the
    video, its `file` with its measurements, or the picture of one `frame`: its index, or None for the last. A file or a
    picture has `max_bytes` at most.
    """

    item: int | None
    kind: Literal["address", "file", "frame"]
    frame: int | None = None
    max_bytes: int = 50_000_000


class SourceVideo(Struct, frozen=True, kw_only=True):
    """The video that a remix is made from. `name` represents it in previews; `measurements`: None if they are not
    known; `content` and `address` are set if they were needed and fetched."""

    name: str
    measurements: Measurements | None = None
    content: bytes = b""
    address: str = ""

    @property
    def as_address(self) -> str:
        """Its address; in a preview of what would be sent, its name."""
        return self.address or self.name


class Plan(Struct, frozen=True):
    """What a request becomes for this upstream: what was `adjusted`; the fields whose values are `left_open`, for the
    upstream to choose; the `model` that is named. `identity`: what, besides the request, tells it from others.
    `sent_fields`: what is sent for its size and length, and all else that is not the caller's, if that may change.
    `needs`: what has to be fetched from earlier videos first: `create` gets pictures as images, and the rest as the
    remix's source."""

    adjusted: tuple[Adjustment, ...] = ()
    left_open: frozenset[str] = frozenset()
    model: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    sent_fields: Mapping[str, Any] | None = None
    needs: tuple[Need, ...] = ()


class Dialect(Protocol):
    """The calls to one type of upstream, and a reader for the answer to each; readers raise only GatewayError."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be requested here, and what it costs."""

    def check(self, request: VideoRequest) -> None:
        """Raise InvalidInput naming everything that must not be sent, or CannotExpress."""

    def create(self, request: VideoRequest) -> Call:
        """Return the paid call for a request that has passed `check`. The ledger stores the request, not this."""

    def read_created(self, reply: Reply) -> Created:
        """Return the task. Raises Refused if nothing was created, OutcomeUnknown if a job may exist."""

    def query(self, task_id: str) -> Call:
        """Return the free call for the state of a task. `task_id` must be `is_id`."""

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
        """Return the task, with those of its videos' addresses that have one of `schemes`. An address without a scheme
        is a path at the gateway's own, fetched with the key.

        Raises NotFound, Refused or BadReply.
        """

    def knows_state(self, word: str) -> bool:
        """Whether the upstream's word for a state (`Task.gateway_state`) is known."""

    def upload(self, name: str, content: bytes) -> Call:
        """Return the free call that makes an image public."""

    def read_uploaded(self, reply: Reply) -> str:
        """Return the image's public address. Raises Refused or BadReply."""

    def models(self) -> Call:
        """Return the free call that shows whether the key is accepted."""

    def read_models(self, reply: Reply) -> list[str]:
        """Return the ids of the models. Raises Refused or BadReply."""


@runtime_checkable
class Adjusting(Protocol):
    """Further methods of a dialect that sends something other than what was requested, or images with it."""

    def plan(self, request: VideoRequest, source: SourceVideo | None = None) -> Plan:
        """Return what a request that has passed `check` becomes; `source`: what is known of the video that it remixes.

        The more is known, the more exact is what it says of the call; `identity` and `needs` do not depend on it.
        """

    def create(
        self, request: VideoRequest, images: Mapping[int, Picture] | None = None, source: SourceVideo | None = None
    ) -> Call:
        """As `Dialect.create`; `images`, by item, are sent with it if `Capabilities.image_bytes` says so, and so is
        what the plan needs of earlier videos. Raises CannotExpress if that turns out to be more than can be sent."""


@runtime_checkable
class Catalogued(Protocol):
    """Further methods of a dialect whose upstream lists what each of its models takes: that must be known before
    anything is checked."""

    def catalogue(self) -> Call:
        """Return the free call for that list."""

    def read_catalogue(self, reply: Reply) -> str:
        """Return the list as a text to store. Raises Refused or BadReply, also for a list that names no model."""

    def check(self, request: VideoRequest) -> None:
        """As `Dialect.check`."""

    def load_catalogue(self, text: str) -> None:
        """Load a stored list. Raises ValueError if the text is not one."""

    def capabilities_of(self, request: VideoRequest) -> Capabilities:
        """Return what the model of a request takes. Raises InvalidInput for a model that is not listed."""


@runtime_checkable
class Pricing(Protocol):
    """A further method of a dialect whose prices are not a table of sizes and lengths."""

    def estimate(self, request: VideoRequest) -> Estimate | None:
        """Return the cost of a request that has passed `check`, in `Capabilities.unit`; None if no price is known."""


class ListedTask(Struct, frozen=True):
    """One task of an upstream's own list. `created_at`: unix seconds; `prompt` is data."""

    task_id: str
    created_at: float
    prompt: str
    state: State


@runtime_checkable
class Listing(Protocol):
    """Further methods of a dialect whose upstream may list tasks (`Capabilities.can_list`)."""

    def list(self) -> Call:
        """Return the free call that lists the newest tasks."""

    def read_list(self, reply: Reply) -> Sequence[ListedTask]:
        """Return the tasks whose creation time can be read. Raises Refused or BadReply."""


@cache
def _implements(dialect: type[Dialect], protocol: type) -> bool:
    """Whether a dialect's class has the methods of a protocol; cached, since that inspects each method."""
    return issubclass(dialect, protocol)


def capabilities_of(dialect: Dialect, request: VideoRequest) -> Capabilities:
    """Return what can be requested with the model of a request. Raises InvalidInput for a model that is not listed."""
    if not _implements(type(dialect), Catalogued):
        return dialect.capabilities
    return cast("Catalogued", dialect).capabilities_of(request)


def plan_of(dialect: Dialect, request: VideoRequest, source: SourceVideo | None) -> Plan:
    """Return what a request that has passed `check` becomes: an empty plan if the dialect sends it unchanged."""
    return cast("Adjusting", dialect).plan(request, source) if _implements(type(dialect), Adjusting) else Plan()


def estimate_of(dialect: Dialect, request: VideoRequest) -> Estimate | None:
    """Return the cost of a request that has passed `check`; None if no price is known."""
    if _implements(type(dialect), Pricing):
        return cast("Pricing", dialect).estimate(request)
    cost = request.cost(dialect.capabilities)
    return None if cost is None else Estimate(cost)


def create_call(
    dialect: Dialect, request: VideoRequest, images: Mapping[int, Picture], source: SourceVideo | None
) -> Call:
    """Return the paid call, with the images and the source that it includes."""
    if not _implements(type(dialect), Adjusting):
        return dialect.create(request)
    return cast("Adjusting", dialect).create(request, images, source)
