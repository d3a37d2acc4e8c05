"""OpenRouter's `/api/v1/videos` as a dialect: its paths, what it sends, and which module reads which answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct, field

from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import TryAgain
from sora_mcp.core.capabilities import Adjustment, Capabilities, ModelOffer, Support
from sora_mcp.core.cost import Estimate
from sora_mcp.core.errors import BadReply
from sora_mcp.core.ids import path_segment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import Task
from sora_mcp.dialects import bridges, shots
from sora_mcp.dialects.openrouter import catalogue, creates, frames, prices, refusals, tasks
from sora_mcp.dialects.openrouter.replies import free_error, make_error
from sora_mcp.dialects.openrouter.shape import shape_of, sizes_of
from sora_mcp.dialects.protocol import WEB, Call, Created, Picture, Plan, SourceVideo
from sora_mcp.dialects.replies import Reply, content_format, parse_json

CREATE_PATH = "/api/v1/videos"
MODELS_PATH = "/api/v1/videos/models"
MAX_IMAGE_BYTES = 20_000_000
ESTIMATE_FPS = 30
"""Frames per second assumed by an estimate by frames: no list tells the rate, most models make 24."""
_UNKNOWN_MODEL = ModelOffer(id="", continues=True, frame_images=(frames.FIRST, frames.LAST))
"""What OpenRouter can express, as long as nothing is known of a model."""


class OpenRouter(Struct):
    """`/api/v1/videos`. `model`, `seed` and `audio` are the settings; `offers`: what the models take, once the
    catalogue is loaded."""

    model: str | None = None
    seed: int | None = None
    audio: bool | None = None
    max_prompt_length: int = 10_000
    offers: Mapping[str, ModelOffer] = field(default_factory=dict)

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """Make the dialect with the model, the seed and the sound that the settings name."""
        return cls(settings.model, settings.seed, settings.generate_audio, settings.max_prompt_length)

    # --- capabilities -----------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the configured model takes; if it is not known, what OpenRouter can express."""
        return self._capabilities(self.offers.get(self.model or "", _UNKNOWN_MODEL))

    def capabilities_of(self, request: VideoRequest) -> Capabilities:
        """Return what the model of a request takes. Raises InvalidInput for a model that is not listed."""
        return self._capabilities(self._offer(request))

    def _capabilities(self, offer: ModelOffer) -> Capabilities:
        operations: dict[str, Support] = {
            "storyboard": "lowered",
            "remix": frames.remix_support(offer),
            "blend": frames.blend_support(offer),
        }
        sizes = sizes_of(offer)
        return Capabilities(
            sizes=dict.fromkeys(sizes),
            lengths=dict.fromkeys(seconds * FPS for seconds in offer.seconds or ()),
            any_size=not sizes,
            any_length=not offer.seconds,
            frame_rule="whole seconds",
            max_variants=1,
            max_prompt_length=self.max_prompt_length,
            operations=operations,
            images=frames.image_support(offer),
            amount=False,
            takes_model=True,
            image_bytes=MAX_IMAGE_BYTES,
            image_links=True,
            offers=tuple(self.offers.values()),
            lists_models=True,
            unit=prices.USD,
            opaque_ids=True,
        )

    def catalogue(self) -> Call:
        """Return the free call that lists what each model takes."""
        return Call(method="GET", path=MODELS_PATH)

    def read_catalogue(self, reply: Reply) -> str:
        """Return the list as a text to store. Raises Refused or BadReply, also for a list that names no model."""
        if reply.status != 200:
            raise free_error(reply)
        answer = parse_json(reply)
        entries = answer.get("data") if isinstance(answer, dict) else None
        if reply.content is None:
            raise make_error(BadReply, reply, "The gateway's list of models is too large, or was cut off.", TryAgain())
        if not isinstance(entries, list):
            page = " (it is a web page)" if content_format(reply) == "html" else ""
            raise make_error(BadReply, reply, f"The gateway's list of models cannot be read{page}.", TryAgain())
        text = catalogue.serialize(entries)
        if not catalogue.parse_offers(text):
            raise make_error(BadReply, reply, "The gateway's list of models names none.", TryAgain())
        return text

    def load_catalogue(self, text: str) -> None:
        """Load a stored list. Raises ValueError if the text is not one."""
        self.offers = catalogue.parse_offers(text)

    # --- requests ---------------------------------------------------------------------------------

    def check(self, request: VideoRequest) -> None:
        """Raise InvalidInput or CannotExpress naming what must not be sent."""
        offer = self._offer(request)
        refusals.check(request, offer, self._capabilities(offer))

    def plan(self, request: VideoRequest, source: SourceVideo | None = None) -> Plan:
        """Return what a request that has passed `check` becomes."""
        offer = self._offer(request)
        shape = shape_of(request, offer)
        adjusted = [*frames.adjustments(request, offer, source), *shape.adjusted, *self._dropped_settings(offer)]
        adjusted += shots.adjustments(request.actions)
        # The identity holds nothing from the list, which may have changed when the same request is made again.
        chosen = sorted(request.model_fields_set & {"width", "height", "n_frames"})
        identity = {"model": offer.id, "seed": self.seed, "generate_audio": self.audio, "given": chosen}
        sent_fields = {"model": offer.id} | shape.fields | self._setting_fields(offer)
        needs = frames.source_needs(request, offer)
        return Plan(tuple(adjusted), shape.left_open, offer.id, identity, sent_fields, needs)

    def estimate(self, request: VideoRequest) -> Estimate | None:
        """Return the cost of a request by the prices in its model's entry; None if those do not tell it.

        A length or a size that is left open, as a remix leaves its source's, counts as the model's maximum.
        """
        offer = self._offer(request)
        shape = shape_of(request, offer)
        seconds = shape.seconds or max(offer.seconds or (), default=None)
        if seconds is None:
            return None
        size = shape.size or max(sizes_of(offer), key=math.prod, default=None)
        width, height = size or (None, None)
        job = prices.Job(
            seconds=seconds,
            n_frames=seconds * ESTIMATE_FPS,
            width=width,
            height=height,
            resolution=shape.fields.get("resolution"),
            audio=self._setting_fields(offer).get("generate_audio", offer.audio),
            images=len(request.inpaint_items),
            has_video=request.operation == "remix",
            is_longest=shape.seconds is None,
            is_largest=shape.size is None,
        )
        return prices.estimate(offer.prices, job)

    def create(
        self, request: VideoRequest, images: Mapping[int, Picture] | None = None, source: SourceVideo | None = None
    ) -> Call:
        """Return the paid call, in JSON."""
        offer = self._offer(request)
        shape = shape_of(request, offer)
        prompt = request.prompt or (bridges.PROMPT if request.operation == "blend" else None)
        if request.actions:
            prompt = shots.prompt_with_shots(prompt, request.actions, shape.seconds or request.n_frames / FPS)
        body: dict[str, Any] = {"model": offer.id} | ({"prompt": prompt} if prompt and prompt.strip() else {})
        body |= shape.fields
        if request.sdedit is not None and offer.continues:
            body["previous_job_id"], source = request.sdedit.source_generation_id, None
        body |= frames.fields(request, images or {}, source) | self._setting_fields(offer)
        return Call(method="POST", path=CREATE_PATH, json=body)

    def _offer(self, request: VideoRequest) -> ModelOffer:
        return refusals.find_offer(request.model or self.model, self.offers)

    def _setting_fields(self, offer: ModelOffer) -> dict[str, Any]:
        """Return the fields that the settings add, if the model takes them."""
        seed = {"seed": self.seed} if self.seed is not None and offer.seed is not False else {}
        has_audio = self.audio is not None and (offer.audio is not False or not self.audio)
        return seed | ({"generate_audio": self.audio} if has_audio else {})

    def _dropped_settings(self, offer: ModelOffer) -> list[Adjustment]:
        """Return the settings that the model does not take."""
        sent_settings, adjusted = self._setting_fields(offer), []
        if self.seed is not None and "seed" not in sent_settings:
            adjusted.append(Adjustment("seed", str(self.seed), f"none: {offer.id} takes no seed"))
        if self.audio and "generate_audio" not in sent_settings:
            adjusted.append(Adjustment("generate_audio", "true", f"nothing: {offer.id} makes no sound"))
        return adjusted

    # --- answers ----------------------------------------------------------------------------------

    def read_created(self, reply: Reply) -> Created:
        """Return the job. Raises Refused if nothing was created, OutcomeUnknown if a job may exist."""
        return creates.read_created(reply)

    def query(self, task_id: str) -> Call:
        """Return the query of one job, at an address that is built here: `polling_url` is never followed."""
        return Call(method="GET", path=f"{CREATE_PATH}/{path_segment(task_id)}")

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
        """Return the task of a job. Raises NotFound, Refused or BadReply."""
        return tasks.read_task(reply, task_id, CREATE_PATH, schemes)

    def knows_state(self, word: str) -> bool:
        """Whether a word for a state is known."""
        return tasks.state_of(word) is not None

    def upload(self, name: str, content: bytes) -> Call:
        """Nothing is uploaded beforehand here."""
        raise NotImplementedError(f"{name} ({len(content)} bytes)")

    def read_uploaded(self, reply: Reply) -> str:
        """Nothing is uploaded beforehand here."""
        raise NotImplementedError(str(reply.status))

    def models(self) -> Call:
        """Return the call for the list of models."""
        return self.catalogue()

    def read_models(self, reply: Reply) -> list[str]:
        """Return the names of the models. Raises Refused or BadReply."""
        return list(catalogue.parse_offers(self.read_catalogue(reply)))
