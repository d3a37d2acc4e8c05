"""The OpenAI-shaped `/v1/videos` as a dialect: its paths, what it sends, and which module reads which answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from msgspec import Struct

from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Setting, TryAgain
from sora_mcp.core.capabilities import Capabilities, Support
from sora_mcp.core.errors import BadReply, NotConfigured
from sora_mcp.core.ids import path_segment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import Task, clean
from sora_mcp.dialects import bridges, shots
from sora_mcp.dialects.protocol import WEB, Call, Created, ListedTask, Picture, Plan, SourceVideo
from sora_mcp.dialects.replies import Reply, parse_json
from sora_mcp.dialects.videos import creates, refusals, tasks
from sora_mcp.dialects.videos.profiles import Profile
from sora_mcp.dialects.videos.references import Abilities, adjustments, image_parts, source_needs
from sora_mcp.dialects.videos.replies import free_error, make_error, state_of
from sora_mcp.dialects.videos.shape import Shape, shape_of, shape_of_source

CREATE_PATH = "/v1/videos"
MODELS_PATH = "/v1/models"


class Videos(Struct, frozen=True):
    """`/v1/videos` of one type of server (`profile`). `model`: the setting SORA_MODEL."""

    profile: Profile
    model: str | None = None
    max_prompt_length: int = 10_000

    @classmethod
    def configured(cls, profile: Profile, settings: Settings) -> Self:
        """Make the dialect of one type of server, with the model that the settings name."""
        return cls(profile, settings.model, settings.max_prompt_length)

    @property
    def capabilities(self) -> Capabilities:
        """What can be requested here; nothing is known about prices."""
        profile, rule = self.profile, self.profile.family(self.model)
        abilities = Abilities.of(profile, self.model)
        operations: dict[str, Support] = {
            "simple_compose": "exact",
            "storyboard": "lowered",
            "remix": abilities.remix,
            "blend": abilities.blend,
        }
        return Capabilities(
            sizes={},
            lengths={},
            any_size=True,
            any_length=True,
            max_variants=profile.max_variants,
            max_prompt_length=self.max_prompt_length,
            operations=operations,
            images=abilities.images,
            amount=False,
            frame_rule=f"{rule.step}k+{rule.rest} frames at {rule.fps} fps" if rule else "whole seconds",
            is_rule_guessed=not profile.has_rule_for(self.model),
            takes_model=True,
            image_bytes=profile.image_bytes,
            has_prices=False,
            opaque_ids=True,
            outlive_restart=not profile.in_memory,
            can_list=profile.can_list,
            can_stop=profile.can_stop,
        )

    def check(self, request: VideoRequest) -> None:
        """Raise InvalidInput or CannotExpress naming what must not be sent, NotConfigured if no model is named."""
        refusals.check(request, self.profile, self.capabilities, self._model(request))
        if self.profile.needs_model and self._model(request) is None:
            raise NotConfigured(
                (Setting("model"), f" is not set, and a server of the kind {self.profile.name} needs a model's name."),
                AskUser(("set ", Setting("model"), " to a model that the server has")),
            )

    def plan(self, request: VideoRequest, source: SourceVideo | None = None) -> Plan:
        """Return what a request that has passed `check` becomes."""
        model = self._model(request)
        abilities = Abilities.of(self.profile, model)
        if request.operation == "remix" and abilities.remix == "exact":
            return Plan(left_open=frozenset({"width", "height", "n_frames"}))
        shape = self._shape(request, source)
        sources = adjustments(request, self.profile, abilities, source)
        adjusted = (*sources, *shape.adjusted, *shots.adjustments(request.actions))
        identity: dict[str, Any] = {"model": model} if model else {}
        if request.operation != "remix":  # the fields that are sent count, however they were requested
            identity |= {"width": None, "height": None, "n_frames": None, "sent": dict(shape.fields)}
        elif shape.is_open and shape.left_open:
            identity["left_open"] = sorted(shape.left_open)
        needs = source_needs(request, self.profile, abilities)
        return Plan(adjusted, shape.left_open, model, identity, needs=needs)

    def create(
        self, request: VideoRequest, images: Mapping[int, Picture] | None = None, source: SourceVideo | None = None
    ) -> Call:
        """Return the paid call; an image, or the remixed video, is the form's only file. Raises CannotExpress."""
        edit, model = request.sdedit, self._model(request)
        if request.operation == "remix" and edit is not None and self.profile.has_remix:
            path = f"{CREATE_PATH}/{path_segment(edit.source_generation_id or '')}/remix"
            return Call(method="POST", path=path, json={"prompt": request.prompt})
        shape = self._shape(request, source)
        prompt = request.prompt or (bridges.PROMPT if request.operation == "blend" else "")
        if request.actions:
            prompt = shots.prompt_with_shots(request.prompt, request.actions, shape.seconds, self.profile.shot_template)
        form = {"prompt": prompt} | ({"model": model} if model else {}) | shape.fields
        if request.n_variants > 1:
            form[self.profile.variants_field] = str(request.n_variants)
        fields, files = image_parts(request, images or {})
        if source is not None:
            files = {self.profile.video_field: (f"{source.name}.mp4", source.content, "video/mp4")}
        return Call(method="POST", path=CREATE_PATH, form=form | fields, files=files)

    def read_created(self, reply: Reply) -> Created:
        """Return the task. Raises Refused if nothing was created, OutcomeUnknown if a job may exist."""
        return creates.read_created(reply)

    def query(self, task_id: str) -> Call:
        """Return the query of one video. `task_id` must be `is_id`."""
        return Call(method="GET", path=f"{CREATE_PATH}/{path_segment(task_id)}")

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:  # noqa: ARG002 - /content
        """Return the task of a video. Raises NotFound, Refused or BadReply."""
        return tasks.read_task(reply, task_id, CREATE_PATH)

    def knows_state(self, word: str) -> bool:
        """Whether a word for a state is known."""
        return state_of(word) is not None

    def upload(self, name: str, content: bytes) -> Call:
        """Nothing is uploaded beforehand here."""
        raise NotImplementedError(f"{name} ({len(content)} bytes)")

    def read_uploaded(self, reply: Reply) -> str:
        """Nothing is uploaded beforehand here."""
        raise NotImplementedError(str(reply.status))

    def models(self) -> Call:
        """Return the call for the list of models, which all of these servers have; the list may be empty."""
        return Call(method="GET", path=MODELS_PATH)

    def read_models(self, reply: Reply) -> list[str]:
        """Return the ids of the models. Raises Refused or BadReply."""
        if reply.status != 200:
            raise free_error(reply)
        listing = parse_json(reply)
        entries = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(entries, list):
            raise make_error(BadReply, reply, "The server's list of models cannot be read.", TryAgain())
        ids = [str(each["id"]) for each in entries if isinstance(each, dict) and "id" in each]
        return [
            each for each in dict.fromkeys(ids) if each == clean(each, 200)
        ]  # cleaning would make it a different id

    def list(self) -> Call:
        """Return the call for the newest jobs."""
        return Call(method="GET", path=f"{CREATE_PATH}?limit=100")

    def read_list(self, reply: Reply) -> Sequence[ListedTask]:
        """Return the jobs whose creation time can be read. Raises Refused or BadReply."""
        return tasks.read_list(reply)

    def _shape(self, request: VideoRequest, source: SourceVideo | None) -> Shape:
        model = self._model(request)
        if request.operation != "remix":
            return shape_of(request, self.profile, model)
        return shape_of_source(source.measurements if source is not None else None, self.profile, model)

    def _model(self, request: VideoRequest) -> str | None:
        return request.model or self.model
