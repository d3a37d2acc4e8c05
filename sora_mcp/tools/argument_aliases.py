"""Names that other APIs use for arguments: each is translated into our name and, if possible, our value.

The texts are for a refusal: what they suggest is never sent automatically.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection

from msgspec import Struct

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.ids import is_id
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean


class Argument(Struct, frozen=True):
    """An argument as received, and what can be requested, if known. `accepts`: whether the tool would accept a value
    for one of its own arguments. `format_name`: how the name of one of those is written; `format_tool`: how another
    tool with one of its arguments is."""

    name: str
    value: object
    limits: Capabilities | None = None
    accepts: Callable[[str, object], bool] = lambda *_: False
    format_name: Callable[[str], str] = str
    format_tool: Callable[[str, str], str] = "{} with {}".format

    @property
    def display_value(self) -> str | None:
        """Its value if that is a number or a short word; None for anything that is better not repeated."""
        value = self.value
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER:
            return f"{value:g}" if isinstance(value, float) else str(value)
        return value if isinstance(value, str) and re.fullmatch(r"[\w.:/#%+~?=&-]{1,120}", value) else None


_MAX_NUMBER = 1e9


class Translation(Struct, frozen=True):
    """What an argument is here: a clause, what is `allowed` if that has to be said, and our own argument."""

    text: str
    allowed: str = ""
    target: str = ""


Translator = Callable[[Argument, str], Translation | None]
"""Translates an argument into our `target`; None if its value shows that something else is meant."""


def fold(name: str) -> str:
    """Return a name in the form used for comparison: `imageUrl`, `image-url` and `image_url` are equal."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def translate(argument: Argument, known: Collection[str]) -> Translation | None:
    """Return what an argument of another API is here, or None if its name is not a known alias.

    `known` are the arguments allowed at this place, with those of items as `inpaint_items.url`.
    """
    folded = fold(argument.name)
    for names, meanings in _NAMES:
        if folded in names.split():
            for target, translator in meanings.items():
                if target in known and (translation := translator(argument, target)):
                    return translation
    return None


# --- translators ----------------------------------------------------------------------------------


def _name_only(argument: Argument, target: str) -> Translation:
    return Translation(f"use {argument.format_name(target)}", target=target)


def _same_value(argument: Argument, target: str) -> Translation:
    """Suggest the same value under our name, if it would be accepted."""
    value, limits, own_name = argument.display_value, argument.limits, argument.format_name(target)
    if value and argument.accepts(target, argument.value):
        return Translation(f"use {own_name}: {argument.name} {value} is {own_name} {value}", target=target)
    allowed = ""
    if limits is not None and target == "n_variants":
        allowed = f"1 to {limits.max_variants}"
    elif limits is not None and target == "n_frames":
        allowed = _lengths(limits)
    return Translation(f"use {own_name}", allowed, target)


def _as_source(argument: Argument, target: str) -> Translation:
    """Translate the id of a video; an address is not one."""
    value = argument.display_value
    if value and re.fullmatch(r"[\w.#-]+", value) and is_id(value.partition("#")[0]):
        return _same_value(argument, target)
    return Translation(f"use {argument.format_name(target)}, the id of a video (task_…)", target=target)


def _as_items(argument: Argument, target: str) -> Translation:
    """Translate images or videos into items: `target` is `inpaint_items.url` or similar."""
    name, field = target.split(".")
    if (own_name := argument.format_name(target)) != target:  # at a shell, where items are not written as JSON
        return Translation(f"use {own_name}", target=name)
    values = argument.value if isinstance(argument.value, list) else [argument.value]
    items = [item for each in values[:_MAX_ITEMS] if (item := as_item(each)) and argument.accepts(name, [item] * 2)]
    if not items or len(items) < len(values):
        return Translation(f"use {name}, a list of objects with {field}", target=name)
    if argument.accepts(name, items):
        return Translation(f"use {name}: {argument.name} is {name} {json.dumps(items)}", target=name)
    if len(items) == 1:
        return Translation(f"use one of {name}: {argument.name} is {json.dumps(items[0])}", target=name)
    max_items = next((n for n in range(len(items), 1, -1) if argument.accepts(name, items[:n])), 1)
    return Translation(f"use {name}, a list of {max_items}, not {len(items)}", target=name)


_MAX_ITEMS = 10
"""Items of a list that is translated."""


def as_item(value: object) -> dict[str, str] | None:
    """Return the item for an id, an address or a path; None for anything else."""
    text = Argument("", value).display_value
    if not isinstance(value, str) or text is None:
        return None
    if re.match("(task|gen|req)_", text):
        return {"generation_id": text} if is_id(text.partition("#")[0]) else None
    return {"url": text} if re.search(r"[./]", text) and not re.fullmatch(r"[\d.:/%-]*", text) else None


def _as_one_of_two(argument: Argument, target: str) -> Translation | None:
    """Translate an id or an address under a name that means first or second; a number is neither."""
    return _as_items(argument, target) if as_item(argument.value) else None


_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(ms|s|secs?|seconds?|m|mins?|minutes?)?", re.IGNORECASE)


def _in_frames(argument: Argument, target: str) -> Translation:
    """Translate seconds (or minutes, or milliseconds) into frames."""
    own_name, limits = argument.format_name(target), argument.limits
    text = f"use {own_name}, {FPS} per second"
    value = argument.value if isinstance(argument.value, str) else argument.display_value or ""
    if (match := _SECONDS.fullmatch(value.strip())) is None:
        return Translation(text, target=target)
    unit = (match[2] or ("ms" if fold(argument.name).endswith("ms") else "s")).lower()
    frames = round(float(match[1]) * FPS * (0.001 if unit == "ms" else 60 if unit.startswith("m") else 1))
    if limits is not None and limits.any_length and not frames:
        return Translation(text, target=target)
    text += f": {argument.name} {value.strip()} is {own_name} {frames}"
    if limits is None or target != "n_frames" or limits.any_length or frames in limits.lengths:
        return Translation(text, target=target)
    return Translation(f"{text}, which is not offered here", _lengths(limits), target)


def _lengths(limits: Capabilities) -> str:
    return ", ".join(f"{each} ({each / FPS:g} s)" for each in sorted(limits.lengths))


def _as_size(argument: Argument, _: str) -> Translation:
    """Translate a size, a shape or a resolution into width and height."""
    from sora_mcp.tools.size_names import PAIR, size_matcher  # noqa: PLC0415 - few calls name a size

    value, text = argument.value, "use {} and {}, in pixels".format(*map(argument.format_name, ("width", "height")))
    size = (value if isinstance(value, str) else argument.display_value or "")[:40].strip().lower()
    if (limits := argument.limits) is None:
        return Translation(text)
    allowed, name = ", ".join(f"{w}x{h}" for w, h in sorted(limits.sizes)), argument.name
    if limits.any_size:
        pair = re.fullmatch(PAIR, size)
        return Translation(f"{text}: {name} {size} is {_width_and_height(argument, *pair.groups())}" if pair else text)
    if (matches_size := size_matcher(size)) is None:
        return Translation(text, allowed)
    if matches := [each for each in sorted(limits.sizes) if matches_size(*each)]:
        sides = " or ".join(_width_and_height(argument, w, h) for w, h in matches)
        return Translation(f"{text}: {name} {clean(size, 20)} is {sides}")
    return Translation(f"{text}; {clean(size, 20)} is not offered here", allowed)


def _width_and_height(argument: Argument, width: object, height: object) -> str:
    return f"{argument.format_name('width')} {width}, {argument.format_name('height')} {height}"


def _as_amount(argument: Argument, target: str) -> Translation:
    """Translate a strength from 0 to 1 to our scale, from 1 to 8."""
    own_name, value = argument.format_name(target), argument.value
    text = f"use {own_name}, from 1 (least change) to 8 (most)"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        text += f": {argument.name} {value:g} of 1 is about {own_name} {1 + 7 * value:.2g}"
    return Translation(text, target=target)


def _as_time(argument: Argument, target: str) -> Translation:
    """Translate seconds into a video; our value carries the unit."""
    own_name = argument.format_name(target)
    if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", argument.display_value or ""):
        seconds = f'"{argument.display_value}s"'
        return Translation(
            f"use {own_name}: {argument.name} {argument.display_value} is {own_name} {seconds}", target=target
        )
    if argument.accepts(target, argument.value):
        return _same_value(argument, target)
    return Translation(f'use {own_name}, such as "7.3s"', target=target)


def _as_frame(argument: Argument, target: str) -> Translation:
    """Translate a frame of a file."""
    if argument.accepts(target, argument.value):
        return _same_value(argument, target)
    return Translation(f'use {argument.format_name(target)}, such as "110"', target=target)


def _as_range(argument: Argument, target: str) -> Translation:
    return Translation(f'use {argument.format_name(target)}, a range such as "2s-5s"', target=target)


def _always(text: str) -> Translator:
    return lambda _, __: Translation(text)


def _other_tool(tool: str, field: str, purpose: str) -> Translator:
    return lambda argument, _: Translation(f"use {argument.format_tool(tool, field)} {purpose}")


def _at_beats(argument: Argument, target: str) -> Translation:
    return Translation(f'use {argument.format_name(target)} "beats"', target=target)


def _fields_of_sdedit(argument: Argument, target: str) -> Translation:
    return Translation(f"use {argument.format_name(target)} and {argument.format_name('source_generation_id')}")


_NOT_SUPPORTED = _always("this API has no equivalent: leave it out")


def _setting(name: str) -> Translator:
    """Translate what a person sets for all calls, at a gateway whose models may accept it."""
    text = f"a person sets it for all calls, with SORA_{name}: leave it out"

    def translator(argument: Argument, target: str) -> Translation | None:
        is_set = argument.limits is not None and argument.limits.lists_models
        return Translation(text) if is_set else _NOT_SUPPORTED(argument, target)

    return translator


_PUT_IN_PROMPT = _always("this API has no equivalent: put it in the prompt")
_SET_BY_TOOL = _always("the tool sets it: leave it out")
_BEAT_ENDS = _always("a beat lasts until the next one begins: leave it out")


def _source_of_other_tool(argument: Argument, target: str) -> Translation | None:
    """Translate a video given to a tool that accepts none: name the tool that does, if one does at this gateway."""
    if argument.limits is not None and not argument.limits.can("remix"):
        return Translation("a finished video cannot be changed at this gateway")
    return _other_tool("remix_video", "source_generation_id", "to change a finished video")(argument, target)


# --- the names ------------------------------------------------------------------------------------

_PAID = "dry_run"
"""An argument of every tool that makes a video."""
_IMAGE: dict[str, Translator] = {
    "inpaint_items.url": _as_items,
    "url": _same_value,
    _PAID: _other_tool("create_video", "inpaint_items", "for an image"),
}
_VIDEO: dict[str, Translator] = {
    "source_generation_id": _as_source,
    "task_id": _as_source,
    "generation_id": _as_source,
    "inpaint_items.generation_id": _as_items,
    _PAID: _source_of_other_tool,
}
_TEXT: dict[str, Translator] = {"description": _name_only, "prompt": _name_only, "query": _same_value}
_NAMES: tuple[tuple[str, dict[str, Translator]], ...] = (
    (
        "first second from to start end a b startframe endframe firstframe lastframe before after",
        {"inpaint_items.generation_id": _as_one_of_two},
    ),
    (
        "duration durations durationms durationsec durationseconds length lengthseconds",
        {"n_frames": _in_frames, "time": _BEAT_ENDS, "wait_seconds": _same_value, "at": _as_time},
    ),
    (
        "seconds second secs minutes videolength videoduration videoseconds numseconds totalseconds",
        {"n_frames": _in_frames, "time": _in_frames, "wait_seconds": _same_value, "at": _as_time},
    ),
    ("frames numframes numberofframes framecount videoframes totalframes", {"n_frames": _same_value}),
    (
        (
            "size resolution dimension dimensions aspect aspectratio ratio orientation shape framesize videosize"
            " videoaspect videoresolution outputsize outputresolution screensize"
        ),
        {"width": _as_size},
    ),
    (
        (
            "num number numvideos numberofvideos numvariants numberofvariants variants variations versions"
            " takes batch batchsize numoutputs numberofoutputs numresults candidates"
        ),
        {"n_variants": _same_value, "variant": _same_value, "limit": _same_value, "frames": _same_value},
    ),
    (
        "n count samplecount numsamples samples",
        dict.fromkeys(("n_variants", "limit", "frames", "variant"), _same_value),
    ),
    (
        (
            "image images imageurl imageurls imagepath imagefile inputimage inputimages inputreference initimage"
            " picture photo firstframe firstframeimage firstframeurl startimage startimageurl startframeimage"
            " lastframe endimage lastframeimage endimageurl reference references referenceimage referenceimages"
            " referenceimageurl"
        ),
        _IMAGE,
    ),
    ("path file filepath src uri href", _IMAGE),
    (
        (
            "compare compareto comparewith comparison other otherid otherids with against and video2 task2 taskid2"
            " videoid2 secondvideo secondvideoid secondtaskid id2 videob"
        ),
        {"beside": _as_source},
    ),
    ("mediaid uploadid fileid", {"upload_media_id": _same_value, "source_upload_media_id": _same_value}),
    (
        (
            "taskid videoid video videos videourl generationid genid id jobid job task requestid operationid"
            " predictionid source sources sourceid sourcevideo sourcevideoid sourcetaskid inputvideo basevideo"
            " referencevideo remixid remixof remixedfromvideoid parentid originalid ids taskids videoids sourceids"
            " generationids videourls sourcevideos inputvideos clip clips clip1 clip2 video1 video2 videoid1 videoid2"
            " videoa videob source1 source2 sourceid1 sourceid2 sourcea sourceb task1 task2 taskid1 taskid2"
            " generation1 generation2 id1 id2 firstvideo secondvideo firstvideoid secondvideoid"
            " firsttaskid secondtaskid startvideo endvideo fromvideo tovideo fromid toid fromtaskid totaskid"
            " sourcegenerationid sourcegenerationids"
        ),
        _VIDEO,
    ),
    ("text textprompt prompttext prompt caption description content scene idea instruction instructions", _TEXT),
    ("search q term keyword keywords contains input message what", _TEXT),
    (
        (
            "strength imagestrength editstrength denoise denoisestrength denoisingstrength influence creativity"
            " variation similarity change intensity"
        ),
        {"amount": _as_amount},
    ),
    (
        "beats beat scenes shots shot storyboard timeline segments keyframes actions script",
        {
            "actions": _name_only,
            "at": _at_beats,
            _PAID: _other_tool("storyboard_video", "actions", "for beats"),
        },
    ),
    ("range span window interval from to start end startframe endframe starttime endtime", {"at": _as_range}),
    ("time timestamp timecode moment position second t startseconds", {"at": _as_time}),
    ("frame framenumber frameindex index still zoom", {"at": _as_frame}),
    ("all allvariations everyvariant", {"all_variants": _same_value}),
    (
        "start starttime startseconds startat at timestamp begin t",
        {"time": _in_frames, "source_start_frame": _same_value},
    ),
    ("frame framenumber index position", {"frame_index": _same_value, "time": _same_value, "variant": _same_value}),
    ("startframe from", {"source_start_frame": _same_value, "time": _same_value, "inpaint_items.url": _as_items}),
    ("endframe to", {"source_end_frame": _same_value, "inpaint_items.url": _as_items}),
    (
        "end endtime endseconds endat endframe to until",
        {"source_end_frame": _same_value, "time": _BEAT_ENDS},
    ),
    ("stills numstills nframes numframes pictures images", {"frames": _same_value}),
    ("variantnumber generation generationindex", {"variant": _same_value}),
    (
        "timeout timeoutseconds timeouts wait waitfor waits waitseconds maxwait pollseconds",
        {"wait_seconds": _same_value, _PAID: _other_tool("get_video", "wait_seconds", "to wait")},
    ),
    ("state states statuses filter", {"status": _same_value, "query": _same_value}),
    ("max maxresults pagesize perpage first take top", {"limit": _same_value}),
    ("pagetoken nextcursor next after", {"cursor": _same_value}),
    ("simulate preview test testmode validateonly estimate dry", {_PAID: _name_only}),
    ("force again allowduplicates", {"allow_duplicate": _name_only}),
    ("fps framerate framespersecond", {_PAID: _always(f"a video always has {FPS} frames per second: leave it out")}),
    ("negativeprompt camera cameramotion cameramovement motion mood lighting", {_PAID: _PUT_IN_PROMPT}),
    ("seed", {_PAID: _setting("SEED")}),
    ("audio generateaudio sound", {_PAID: _setting("GENERATE_AUDIO")}),
    (
        (
            "quality guidance guidancescale cfg cfgscale steps sampler watermark"
            " voice callback callbackurl webhook webhookurl notifyhook user metadata loop upscale enhanceprompt"
            " promptoptimizer promptupsampling outputformat responseformat idempotencykey preset format"
        ),
        {_PAID: _NOT_SUPPORTED},
    ),
    ("operation type mode", {_PAID: _SET_BY_TOOL}),
    ("sdedit", {"amount": _fields_of_sdedit}),
)
"""Names in other APIs, folded, and what each may be here: the first target allowed at the place is used."""
