"""What a spending cap says: which setting forbids a call, what stands in the way, and what can be done before it is
raised."""

from __future__ import annotations

from sora_mcp.core.advice import Advice, AskUser, Do, Message, Part, RaiseCap, Setting, Settle, TellUser, Wait
from sora_mcp.core.cost import RELATIVE, Cost, in_words
from sora_mcp.core.errors import MOST_NAMED, SoraError

PERSONAL = "personal"
"""Stands for a setting's name where the cap for a day is that of one of several people who share a server."""


def _cap(field: str) -> Part:
    return "your cap for 24 hours" if field == PERSONAL else Setting(field)


def _raise(field: str) -> Advice:
    return TellUser("whoever runs this server can raise that") if field == PERSONAL else RaiseCap(field)


class OverCap(SoraError):
    """A spending cap forbids it; the message names the setting, `field`, or PERSONAL.

    `ways_out`: what can be done before the user raises the cap.
    """

    kind = "over_cap"
    default_outcome = "not_submitted"

    def __init__(self, field: str, cap: Cost | int, reached: str, *ways_out: Advice) -> None:
        super().__init__((f"{reached}, and ", _cap(field), f" allows {cap}."), *ways_out, _raise(field))


class OverCallCap(OverCap):
    """One call costs more than the cap for a call, or its cost is not known."""

    def __init__(self, cap: Cost, cost: Cost | None) -> None:
        is_money = cost is not None and not cost.is_relative
        reached = f"This call costs {cost}" if is_money else f"This call has {in_words(cost)}"
        super().__init__("max_cost_per_call", cap, reached, *_to_know(cost))


class TooManyRunning(OverCap):
    """As many videos are under way, or may be, as the settings allow. `open_videos`: ids and states. `will_pass`: some
    of them will finish; the others are unknown until a person settles them."""

    def __init__(self, cap: int, open_videos: list[tuple[str, str]]) -> None:
        number = len(open_videos)
        shown = ", ".join(f"{video_id} ({state})" for video_id, state in open_videos[:MOST_NAMED])
        more = f" and {number - MOST_NAMED} more" if number > MOST_NAMED else ""
        verb = "video is" if number == 1 else "videos are"
        running = [video_id for video_id, state in open_videos if state != "unknown"][:1]
        unknown = [video_id for video_id, state in open_videos if state == "unknown"][:MOST_NAMED]
        reached = f"{number} {verb} under way, or may be: {shown}{more}"
        self.will_pass = bool(running)
        super().__init__("max_running", cap, reached, *map(Wait, running), *_to_settle(unknown))


class OverDailyCap(OverCap):
    """The cap for a day would be exceeded, or may be. Unknown requests may have cost `uncertain`."""

    def __init__(
        self,
        cap: Cost,
        spent: Cost,
        uncertain: Cost,
        cost: Cost | None,
        unknown: list[str],
        *,
        field: str = "max_cost_per_day",
    ) -> None:
        wanted = "an unknown cost" if cost is None else str(cost)
        maybe = f", {uncertain} more may have been ({', '.join(unknown)}: outcome unknown)" if unknown else ""
        reached = f"{spent} was spent in the last 24 hours{maybe} and this would add {wanted}"
        reached += " (relative cost)" if cap.is_relative else ""
        super().__init__(field, cap, reached, *_to_know(cost), *_to_settle(unknown))


class CostsNotKnown(OverCap):
    """What some calls of the day cost is not known in the currency of the cap, so that it cannot hold."""

    def __init__(self, cap: Cost, calls: int, field: str = "max_cost_per_day") -> None:
        videos = "1 video" if calls == 1 else f"{calls} videos"
        way_out = Do("A video counts with what the gateway states once it has finished.")
        super().__init__(field, cap, f"The cost of {videos} of the last 24 hours is not known in {cap.unit}", way_out)


class OverTeamCap(OverCap):
    """A cap is reached that all who share a server have together: see `core.team_caps`."""


class OtherUnit(OverCap):
    """A cap is in another unit than the gateway's prices: it cannot hold."""

    def __init__(self, field: str, cap: Cost, unit: str) -> None:
        if unit == RELATIVE:
            why, form = "costs at this gateway are relative", "as a number without a currency"
        else:
            why, form = f"costs at this gateway are in {unit}", f'with the word {unit}, such as "{cap.amount:g} {unit}"'
        if field == PERSONAL:
            message: Message = f"Your cap for 24 hours is {cap}, but {why}: it cannot hold, and paid calls are refused."
            advice: Advice = TellUser(f"whoever runs this server has to write it {form}")
        else:
            message = (Setting(field), f" is {cap}, but {why}: it cannot hold, and paid calls are refused.")
            advice = AskUser(("write ", Setting(field), f" {form}"))
        SoraError.__init__(self, message, advice)


class TooManyCalls(OverCap):
    """As many videos were submitted within a day as the settings allow."""

    def __init__(self, cap: int, calls: int, wanted: int = 1) -> None:
        videos = "1 video was" if calls == 1 else f"{calls} videos were"
        more = f" and this would add {wanted}" if wanted > 1 else ""
        super().__init__("max_calls_per_day", cap, f"{videos} submitted in the last 24 hours{more}")


class NoPrices(OverCap):
    """A cap on costs is set, and nobody knows what this gateway asks: the cap cannot hold."""

    def __init__(self, field: str, cap: Cost) -> None:
        way_out = AskUser(
            ("set ", Setting("max_calls_per_day"), " instead: that limits the number of videos in 24 hours")
        )
        the_cap = () if field == PERSONAL else ("the cap ",)
        message = ("No price is known at this gateway, so ", *the_cap, _cap(field), f" ({cap}) cannot hold.")
        SoraError.__init__(self, message, way_out, _raise(field))


def _to_know(cost: Cost | None) -> list[Do]:
    """What may make the price of a request known, where it is not."""
    sentence = "The price of this request is not known; giving n_frames, width and height may make it known."
    return [Do(sentence)] if cost is None else []


def _to_settle(request_ids: list[str]) -> list[Settle]:
    return [Settle(tuple(request_ids))] if request_ids else []
