"""The errors of spending caps: which setting forbids a call, why, and what can be done before it is raised."""

from __future__ import annotations

from sora_mcp.core.advice import Advice, AskUser, Do, Message, Part, RaiseCap, Setting, Settle, TellUser, Wait
from sora_mcp.core.cost import RELATIVE, Cost, describe_cost
from sora_mcp.core.errors import MAX_NAMED, SoraError
from sora_mcp.core.tasks import counted

PERSONAL = "personal"
"""Takes the place of a setting's name if the daily cap is that of one of several people who share a server."""


def _cap(field: str) -> Part:
    return "your cap for 24 hours" if field == PERSONAL else Setting(field)


def _raise(field: str) -> Advice:
    return TellUser("whoever runs this server can raise that") if field == PERSONAL else RaiseCap(field)


class OverCap(SoraError):
    """A spending cap forbids the call. `field` is the setting that the message names, or PERSONAL.

    `remedies`: what can be done before the user raises the cap.
    """

    kind = "over_cap"
    default_outcome = "not_submitted"

    def __init__(self, field: str, cap: Cost | int, reached: str, *remedies: Advice) -> None:
        super().__init__((f"{reached}, and ", _cap(field), f" allows {cap}."), *remedies, _raise(field))


class OverCallCap(OverCap):
    """One call costs more than the cap for a call, or its cost is not known."""

    def __init__(self, cap: Cost, cost: Cost | None) -> None:
        is_money = cost is not None and not cost.is_relative
        reached = f"This call costs {cost}" if is_money else f"This call has {describe_cost(cost)}"
        super().__init__("max_cost_per_call", cap, reached, *_price_advice(cost))


class TooManyRunning(OverCap):
    """As many videos are under way, or may be, as the settings allow. `open_videos`: ids and states. `is_temporary`:
    some of them will finish; the others are unknown until a person settles them."""

    def __init__(self, cap: int, open_videos: list[tuple[str, str]]) -> None:
        number = len(open_videos)
        open_ids = ", ".join(f"{video_id} ({state})" for video_id, state in open_videos[:MAX_NAMED])
        more = f" and {number - MAX_NAMED} more" if number > MAX_NAMED else ""
        verb = "video is" if number == 1 else "videos are"
        running = [video_id for video_id, state in open_videos if state != "unknown"][:1]
        unknown = [video_id for video_id, state in open_videos if state == "unknown"][:MAX_NAMED]
        reached = f"{number} {verb} under way, or may be: {open_ids}{more}"
        self.is_temporary = bool(running)
        super().__init__("max_running", cap, reached, *map(Wait, running), *_settle_advice(unknown))


class OverDailyCap(OverCap):
    """The daily cap would be exceeded, or may be. `unknown`: requests of unknown outcome, which may have cost
    `uncertain`."""

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
        super().__init__(field, cap, reached, *_price_advice(cost), *_settle_advice(unknown))


class CostsNotKnown(OverCap):
    """The cost of some calls of the day is not known in the cap's currency, so it cannot be enforced."""

    def __init__(self, cap: Cost, calls: int, field: str = "max_cost_per_day") -> None:
        way_out = Do("Once a video has finished, it counts at the cost that the gateway states.")
        reached = f"The cost of {counted(calls, 'video')} of the last 24 hours is not known in {cap.unit}"
        super().__init__(field, cap, reached, way_out)


class OverTeamCap(OverCap):
    """A cap shared by all users of a server is reached: see `core.team_caps`."""


class OtherUnit(OverCap):
    """A cap is in another unit than the gateway's prices, so it cannot be enforced."""

    def __init__(self, field: str, cap: Cost, unit: str) -> None:
        if unit == RELATIVE:
            reason, form = "costs at this gateway are relative", "as a number without a currency"
        else:
            reason, form = (
                f"costs at this gateway are in {unit}",
                f'with the word {unit}, such as "{cap.amount:g} {unit}"',
            )
        if field == PERSONAL:
            message: Message = (
                f"Your cap for 24 hours is {cap}, but {reason}: it cannot be enforced, and paid calls are refused."
            )
            advice: Advice = TellUser(f"whoever runs this server has to write it {form}")
        else:
            message = (Setting(field), f" is {cap}, but {reason}: it cannot be enforced, and paid calls are refused.")
            advice = AskUser(("write ", Setting(field), f" {form}"))
        SoraError.__init__(self, message, advice)


class TooManyCalls(OverCap):
    """As many videos were submitted within a day as the settings allow."""

    def __init__(self, cap: int, calls: int, wanted: int = 1) -> None:
        videos = "1 video was" if calls == 1 else f"{calls} videos were"
        more = f" and this would add {wanted}" if wanted > 1 else ""
        super().__init__("max_calls_per_day", cap, f"{videos} submitted in the last 24 hours{more}")


class NoPrices(OverCap):
    """A cap on costs is set, but no price is known at this gateway, so it cannot be enforced."""

    def __init__(self, field: str, cap: Cost) -> None:
        way_out = AskUser(
            ("set ", Setting("max_calls_per_day"), " instead: that limits the number of videos in 24 hours")
        )
        the_cap = () if field == PERSONAL else ("the cap ",)
        message = ("No price is known at this gateway, so ", *the_cap, _cap(field), f" ({cap}) cannot be enforced.")
        SoraError.__init__(self, message, way_out, _raise(field))


def _price_advice(cost: Cost | None) -> list[Do]:
    """Advise how to make the price of a request known, if it is not."""
    sentence = "The price of this request is not known; giving n_frames, width and height may make it known."
    return [Do(sentence)] if cost is None else []


def _settle_advice(request_ids: list[str]) -> list[Settle]:
    return [Settle(tuple(request_ids))] if request_ids else []
