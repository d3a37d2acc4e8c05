"""What other APIs call things: an argument that is none of ours, said with our name and, where it can be, our value.

The words are for a refusal: what they say is never sent by itself.
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
    """An argument as it came, and what can be asked for, where that is known. `accepts`: whether the tool would take a
    value for one of its own arguments, and `written`: how the name of one of those is written."""

    name: str
    value: object
    limits: Capabilities | None = None
    accepts: Callable[[str, object], bool] = lambda *_: False
    written: Callable[[str], str] = str

    @property
    def shown(self) -> str | None:
        """Its value where that is a number or a short word; None for anything that is better not repeated."""
        value = self.value
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGE:
            return f"{value:g}" if isinstance(value, float) else str(value)
        return value if isinstance(value, str) and re.fullmatch(r"[\w.:/#%+~?=&-]{1,120}", value) else None


_LARGE = 1e9


class Translation(Struct, frozen=True):
    """What an argument is here: a clause, what is `allowed` where that has to be said, and our own argument."""

    words: str
    allowed: str = ""
    target: str = ""


Say = Callable[[Argument, str], Translation | None]
"""How an argument is said that is our `target`; None where its value shows that something else is meant."""


def fold(name: str) -> str:
    """A name as it is compared: `imageUrl`, `image-url` and `image_url` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def translated(argument: Argument, known: Collection[str]) -> Translation | None:
    """What an argument of another API is here; None where its name is not one of those.

    `known` are the arguments that stand at this place, with those of items as `inpaint_items.url`.
    """
    folded = fold(argument.name)
    for names, meanings in _NAMES:
        if folded in names.split():
            for target, say in meanings.items():
                if target in known and (translation := say(argument, target)):
                    return translation
    return None


# --- how they are said ----------------------------------------------------------------------------


def _called(argument: Argument, target: str) -> Translation:
    return Translation(f"that is {argument.written(target)}", target=target)


def _renamed(argument: Argument, target: str) -> Translation:
    """The same value under our name, where it would be accepted."""
    value, limits, name_here = argument.shown, argument.limits, argument.written(target)
    if value and argument.accepts(target, argument.value):
        return Translation(f"that is {name_here}: {argument.name} {value} is {name_here} {value}", target=target)
    allowed = ""
    if limits is not None and target == "n_variants":
        allowed = f"1 to {limits.max_variants}"
    elif limits is not None and target == "n_frames":
        allowed = _lengths(limits)
    return Translation(f"that is {name_here}", allowed, target)


def _as_source(argument: Argument, target: str) -> Translation:
    """The id of a video; an address is none."""
    if argument.shown and re.fullmatch(r"[\w.#-]+", argument.shown) and is_id(argument.shown.partition("#")[0]):
        return _renamed(argument, target)
    return Translation(f"that is {argument.written(target)}, the id of a video (task_…)", target=target)


def _as_items(argument: Argument, target: str) -> Translation:
    """Images or videos as items: `target` is `inpaint_items.url` or the like."""
    items, field = target.split(".")
    values = argument.value if isinstance(argument.value, list) else [argument.value]
    shown = [item for each in values[:_MOST_ITEMS] if (item := as_item(each)) and argument.accepts(items, [item] * 2)]
    if not shown or len(shown) < len(values):
        return Translation(f"that is {items}, a list of objects with {field}", target=items)
    if argument.accepts(items, shown):
        return Translation(f"that is {items}: {argument.name} is {items} {json.dumps(shown)}", target=items)
    if len(shown) == 1:
        return Translation(f"that is one of {items}: {argument.name} is {json.dumps(shown[0])}", target=items)
    most = next((n for n in range(len(shown), 1, -1) if argument.accepts(items, shown[:n])), 1)
    return Translation(f"that is {items}, a list of {most}, not {len(shown)}", target=items)


_MOST_ITEMS = 10
"""Of a list that is said with our names."""


def as_item(value: object) -> dict[str, str] | None:
    """The item that an id, an address or a path stands for; None for anything else."""
    text = Argument("", value).shown
    if not isinstance(value, str) or text is None:
        return None
    if re.match("(task|gen|req)_", text):
        return {"generation_id": text} if is_id(text.partition("#")[0]) else None
    return {"url": text} if re.search(r"[./]", text) and not re.fullmatch(r"[\d.:/%-]*", text) else None


def _as_one_of_two(argument: Argument, target: str) -> Translation | None:
    """An id or an address under a name that says first or second; a number is none."""
    return _as_items(argument, target) if as_item(argument.value) else None


_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(ms|s|secs?|seconds?|m|mins?|minutes?)?", re.IGNORECASE)


def _in_frames(argument: Argument, target: str) -> Translation:
    """Seconds (or minutes, or thousandths of a second) as frames."""
    name_here, limits = argument.written(target), argument.limits
    words = f"that is {name_here}, {FPS} per second"
    text = argument.value if isinstance(argument.value, str) else argument.shown or ""
    if (match := _SECONDS.fullmatch(text.strip())) is None:
        return Translation(words, target=target)
    unit = (match[2] or ("ms" if fold(argument.name).endswith("ms") else "s")).lower()
    frames = round(float(match[1]) * FPS * (0.001 if unit == "ms" else 60 if unit.startswith("m") else 1))
    if limits is not None and limits.any_length and not frames:
        return Translation(words, target=target)
    words += f": {argument.name} {text.strip()} is {name_here} {frames}"
    if limits is None or target != "n_frames" or limits.any_length or frames in limits.lengths:
        return Translation(words, target=target)
    return Translation(f"{words}, which no video here has", _lengths(limits), target)


def _lengths(limits: Capabilities) -> str:
    return ", ".join(f"{each} ({each / FPS:g} s)" for each in sorted(limits.lengths))


def _as_size(argument: Argument, _: str) -> Translation:
    """A size, a shape or a resolution as width and height."""
    words, value = "that is width and height, in pixels", argument.value
    text = (value if isinstance(value, str) else argument.shown or "")[:40].strip().lower()
    if (limits := argument.limits) is None:
        return Translation(words)
    allowed, name = ", ".join(f"{w}x{h}" for w, h in sorted(limits.sizes)), argument.name
    if limits.any_size:
        pair = re.fullmatch(_PAIR, text)
        return Translation(f"{words}: {name} {text} is {_both(argument, *pair.groups())}" if pair else words)
    if (fits := _fitting(text)) is None:
        return Translation(words, allowed)
    if fitting := [size for size in sorted(limits.sizes) if fits(*size)]:
        sides = " or ".join(_both(argument, w, h) for w, h in fitting)
        return Translation(f"{words}: {name} {clean(text, 20)} is {sides}")
    return Translation(f"{words}; no video here has {clean(text, 20)}", allowed)


def _both(argument: Argument, width: object, height: object) -> str:
    return f"{argument.written('width')} {width}, {argument.written('height')} {height}"


_SHAPES = {"landscape": 16 / 9, "horizontal": 16 / 9, "wide": 16 / 9, "widescreen": 16 / 9, "square": 1.0}
_SHAPES |= {"portrait": 9 / 16, "vertical": 9 / 16, "tall": 9 / 16}
_PAIR = r"(\d{2,5})\s*[^\d\s:/]\s*(\d{2,5})"
_LINES = {"sd": 480, "hd": 720, "fhd": 1080, "fullhd": 1080, "2k": 1440, "qhd": 1440, "4k": 2160, "uhd": 2160}


def _fitting(text: str) -> Callable[[int, int], bool] | None:
    """Whether a width and a height are what a text says; None where it says nothing that can be read."""
    if pair := re.fullmatch(_PAIR, text):
        size = int(pair[1]), int(pair[2])
        return lambda width, height: (width, height) == size
    if pair := re.fullmatch(r"(\d{1,2}(?:\.\d{1,3})?)\s*[:/x]\s*(\d{1,2}(?:\.\d{1,3})?)", text):
        ratio = float(pair[1]) / float(pair[2]) if float(pair[2]) else 0
    else:
        ratio = _SHAPES.get(text, 0)
    if ratio:
        return lambda width, height: abs(width / height / ratio - 1) < 0.03  # 854x480 is not quite 16:9
    lines = int(text.rstrip("p")) if re.fullmatch(r"\d{3,4}p?", text) else _LINES.get(text)
    return None if lines is None else lambda width, height: min(width, height) == lines


def _as_amount(argument: Argument, target: str) -> Translation:
    """A strength from 0 to 1 on our scale, from 1 to 8."""
    name_here, value = argument.written(target), argument.value
    words = f"that is {name_here}, from 1 (least change) to 8 (most)"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        words += f": {argument.name} {value:g} of 1 is about {name_here} {1 + 7 * value:.2g}"
    return Translation(words, target=target)


def _as_time(argument: Argument, target: str) -> Translation:
    """Seconds into a video, with their unit."""
    name_here = argument.written(target)
    if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", argument.shown or ""):
        seconds = f'"{argument.shown}s"'
        return Translation(
            f"that is {name_here}: {argument.name} {argument.shown} is {name_here} {seconds}", target=target
        )
    if argument.accepts(target, argument.value):
        return _renamed(argument, target)
    return Translation(f'that is {name_here}, such as "7.3s"', target=target)


def _as_frame(argument: Argument, target: str) -> Translation:
    """A frame of a file."""
    if argument.accepts(target, argument.value):
        return _renamed(argument, target)
    return Translation(f'that is {argument.written(target)}, such as "110"', target=target)


def _as_range(argument: Argument, target: str) -> Translation:
    return Translation(f'that is {argument.written(target)}, a range such as "2s-5s"', target=target)


def _says(words: str) -> Say:
    return lambda _, __: Translation(words)


_NO_SUCH_THING = _says("this API has no such thing: leave it out")


def _setting(name: str) -> Say:
    """What a person sets for all calls, at a gateway whose models may take it."""
    words = f"a person sets that for all calls, as SORA_{name}: leave it out"

    def say(argument: Argument, target: str) -> Translation | None:
        is_set = argument.limits is not None and argument.limits.lists_models
        return Translation(words) if is_set else _NO_SUCH_THING(argument, target)

    return say


_IN_THE_PROMPT = _says("this API has no such thing: say it in the prompt")
_BY_THE_TOOL = _says("the tool sets it: leave it out")


def _changed_by_another(argument: Argument, _: str) -> Translation:
    """A video, where the tool takes none: which one does, if any does at this gateway."""
    can_remix = argument.limits is None or argument.limits.can("remix")
    does = "remix_video does, as source_generation_id" if can_remix else "none does at this gateway"
    return Translation(f"this tool changes no finished video: {does}")


# --- the names ------------------------------------------------------------------------------------

_PAID = "dry_run"
"""An argument that every tool has which makes a video."""
_IMAGE: dict[str, Say] = {
    "inpaint_items.url": _as_items,
    "url": _renamed,
    _PAID: _says("this tool takes no image: create_video does, as inpaint_items"),
}
_VIDEO: dict[str, Say] = {
    "source_generation_id": _as_source,
    "task_id": _as_source,
    "generation_id": _as_source,
    "inpaint_items.generation_id": _as_items,
    _PAID: _changed_by_another,
}
_WORDS: dict[str, Say] = {"description": _called, "prompt": _called, "query": _renamed}
_NAMES: tuple[tuple[str, dict[str, Say]], ...] = (
    (
        "first second from to start end a b startframe endframe firstframe lastframe before after",
        {"inpaint_items.generation_id": _as_one_of_two},
    ),
    (
        (
            "seconds second secs duration durations durationms durationsec durationseconds length lengthseconds"
            " minutes videolength videoduration videoseconds numseconds totalseconds"
        ),
        {"n_frames": _in_frames, "time": _in_frames, "wait_seconds": _renamed, "at": _as_time},
    ),
    ("frames numframes numberofframes framecount videoframes totalframes", {"n_frames": _renamed}),
    (
        (
            "size resolution dimension dimensions aspect aspectratio ratio orientation shape framesize videosize"
            " videoaspect videoresolution outputsize outputresolution screensize"
        ),
        {"width": _as_size},
    ),
    (
        (
            "n num number numvideos numberofvideos numvariants numberofvariants variants variations versions"
            " takes count batch batchsize samplecount numsamples samples numoutputs numberofoutputs numresults"
            " candidates"
        ),
        {"n_variants": _renamed, "variant": _renamed, "limit": _renamed, "frames": _renamed},
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
    ("mediaid uploadid fileid", {"upload_media_id": _renamed, "source_upload_media_id": _renamed}),
    (
        (
            "taskid videoid video videos videourl generationid genid id jobid job task requestid operationid"
            " predictionid source sources sourceid sourcevideo sourcevideoid sourcetaskid inputvideo basevideo"
            " referencevideo remixid remixof remixedfromvideoid parentid originalid ids taskids videoids sourceids"
            " generationids videourls sourcevideos inputvideos clip clips clip1 clip2 video1 video2 videoid1 videoid2"
            " videoa videob source1 source2 sourceid1 sourceid2 sourcea sourceb task1 task2 taskid1 taskid2"
            " generation1 generation2 id1 id2 firstvideo secondvideo firstvideoid secondvideoid"
            " firsttaskid secondtaskid startvideo endvideo fromvideo tovideo fromid toid fromtaskid totaskid"
        ),
        _VIDEO,
    ),
    ("text textprompt prompttext prompt caption description content scene idea instruction instructions", _WORDS),
    ("search q term keyword keywords contains input message what", _WORDS),
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
            "actions": _called,
            "at": _says('that is at "beats"'),
            _PAID: _says("this tool takes no beats: storyboard_video does, as actions"),
        },
    ),
    ("range span window interval from to start end startframe endframe starttime endtime", {"at": _as_range}),
    ("time timestamp timecode moment position second t startseconds", {"at": _as_time}),
    ("frame framenumber frameindex index still zoom", {"at": _as_frame}),
    ("all allvariations everyvariant", {"all_variants": _renamed}),
    ("start starttime startseconds startat at timestamp begin t", {"time": _in_frames, "source_start_frame": _renamed}),
    ("frame framenumber index position", {"frame_index": _renamed, "time": _renamed, "variant": _renamed}),
    ("startframe from", {"source_start_frame": _renamed, "time": _renamed, "inpaint_items.url": _as_items}),
    ("endframe to", {"source_end_frame": _renamed, "inpaint_items.url": _as_items}),
    (
        "end endtime endseconds endat endframe to until",
        {"source_end_frame": _renamed, "time": _says("a beat lasts until the next one begins: leave it out")},
    ),
    ("stills numstills nframes numframes pictures images", {"frames": _renamed}),
    ("variantnumber generation generationindex", {"variant": _renamed}),
    ("timeout timeoutseconds timeouts wait waitfor waits maxwait pollseconds", {"wait_seconds": _renamed}),
    ("state states statuses filter", {"status": _renamed, "query": _renamed}),
    ("max maxresults pagesize perpage first take top", {"limit": _renamed}),
    ("pagetoken nextcursor next after", {"cursor": _renamed}),
    ("simulate preview test testmode validateonly estimate dry", {_PAID: _called}),
    ("force again allowduplicates", {"allow_duplicate": _called}),
    ("fps framerate framespersecond", {_PAID: _says(f"a video always has {FPS} frames per second: leave it out")}),
    ("negativeprompt camera cameramotion cameramovement motion mood lighting", {_PAID: _IN_THE_PROMPT}),
    ("seed", {_PAID: _setting("SEED")}),
    ("audio generateaudio sound", {_PAID: _setting("GENERATE_AUDIO")}),
    (
        (
            "quality guidance guidancescale cfg cfgscale steps sampler watermark"
            " voice callback callbackurl webhook webhookurl notifyhook user metadata loop upscale enhanceprompt"
            " promptoptimizer promptupsampling outputformat responseformat idempotencykey preset format"
        ),
        {_PAID: _NO_SUCH_THING},
    ),
    ("operation type mode", {_PAID: _BY_THE_TOOL}),
    ("sdedit", {"amount": _says("its fields stand beside the others: amount, source_generation_id")}),
)
"""Names of other APIs, folded, and what each may be here: the first that stands at the place counts."""
