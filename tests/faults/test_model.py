"""Studio and ledger against a plain model: hypothesis draws what agents, gateways, people and clocks do."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from bench import ACCEPTED_NEXT
from fault_gateway import CREATE, Answer, fault_gateway, says
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from ledgers import Store, in_file
from postgres import Cluster

from sora_mcp.config.settings import load
from sora_mcp.core.caps import OverCap
from sora_mcp.core.errors import NotFound, SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.results import VideoList
from sora_mcp.core.states import OPEN, TRANSITIONS
from sora_mcp.core.tasks import UNDER_WAY, State
from sora_mcp.studio import Studio
from sora_mcp.studio.poller import FORGOTTEN_AFTER_S

MINUTE, DAY = 60, 86_400
RUNNING_MOST, DAY_MOST = 3, 6.0
COST = 1.0  # 480x480, 5 s
LIVES = ("SUBMITTED", "QUEUED", "IN_PROGRESS", "SUCCESS"), ("QUEUED", "IN_PROGRESS", "FAILURE")
GONE = {"Connection": "close"}
TAKEN = replace(ACCEPTED_NEXT, headers=GONE)
GATEWAY: dict[str, Answer] = {
    "accepts": TAKEN,
    "refuses": replace(says({"code": "quota_not_enough", "message": "no"}, 403), headers=GONE),
    "loses the answer": replace(TAKEN, fault="close"),
}
FORGOTTEN = replace(says({"code": "task_not_exist", "message": "no"}, 404), headers=GONE)
OUTCOME = {"accepts": "accepted", "refuses": "rejected", "loses the answer": "unknown"}


@dataclass
class Paid:
    """One intent as the model knows it. `made`: the gateway's task, told or not; `life`: its status now and later."""

    prompt: str
    request_id: str
    at: float
    state: State
    made: str | None
    life: list[str]
    succeeded_at: float = 0


@asynccontextmanager
async def opened(address: str, folder: Path, machine: Machine) -> AsyncIterator[Studio]:
    """A studio whose ledger has the machine's clock."""
    ledger = machine.store.open(lambda: machine.now)
    values = {"max_running": RUNNING_MOST, "max_cost_per_day": DAY_MOST, "home": folder / "home"}
    try:
        async with anyio.create_task_group() as background:
            yield Studio(load({}, base_url=address, api_key="sk-of-the-model", **values), ledger, background)
    finally:
        ledger.close()


class Machine(RuleBasedStateMachine):
    """What may happen, in any order; after each step the invariants hold."""

    def __init__(self, make_store: Callable[[Path], Store]) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.paid: list[Paid] = []
        self.outside = ExitStack()
        self.folder = Path(self.outside.enter_context(tempfile.TemporaryDirectory()))
        self.store = make_store(self.folder)
        self.portal = self.outside.enter_context(start_blocking_portal())
        self.gateway = self.outside.enter_context(self.portal.wrap_async_context_manager(fault_gateway()))
        self.inside = ExitStack()
        self.restart()

    @rule()
    def restart(self) -> None:
        self.inside.close()
        opening = opened(self.gateway.address, self.folder, self)
        self.studio = self.inside.enter_context(self.portal.wrap_async_context_manager(opening))

    @rule(
        prompt=st.sampled_from(["a", "b", "c"]),
        behaviour=st.sampled_from(sorted(GATEWAY)),
        allow_duplicate=st.booleans(),
        life=st.sampled_from(LIVES),
    )
    def create(self, prompt: str, behaviour: str, allow_duplicate: bool, life: tuple[str, ...]) -> None:
        self.gateway.on("POST", CREATE, GATEWAY[behaviour])
        posts = len(self.gateway.creates())
        told, request_id = self._submit(prompt, allow_duplicate=allow_duplicate)
        self._learn()  # what stands in the way is asked about first
        first = None if allow_duplicate else self._first(prompt)
        if first is not None:
            assert (told, request_id) == ("unknown" if first.state == "unknown" else "duplicate", first.request_id)
        elif self._capped():
            assert told == "over cap"
        else:
            assert told == OUTCOME[behaviour]
            assert request_id is not None
            state: State = {"accepted": "submitted", "rejected": "rejected"}.get(told, "unknown")  # type: ignore[assignment]
            made = self.gateway.creates()[-1].task_id
            assert self._rows()[-1][:2] == (request_id, state)
            self.paid.append(Paid(prompt, request_id, self.now, state, made, list(life)))
            self._say(self.paid[-1])
            posts += 1
        assert len(self.gateway.creates()) == posts

    def _submit(self, prompt: str, *, allow_duplicate: bool) -> tuple[str, str | None]:
        body = {"operation": "simple_compose", "prompt": prompt, "width": 480, "height": 480}
        request = VideoRequest.model_validate(body)

        async def submit() -> tuple[str, str | None]:
            try:
                told = await self.studio.submit(request, allow_duplicate=allow_duplicate)
            except OverCap:
                return "over cap", None
            except SoraError as error:
                return str(error.outcome), error.request_id
            return "duplicate" if told.duplicate else told.outcome, told.request_id

        return self.portal.call(submit)

    def _first(self, prompt: str) -> Paid | None:
        """The newest one that makes the same request a duplicate."""
        since = self.now - 10 * MINUTE
        same = [p for p in self.paid if p.prompt == prompt]
        same = [p for p in same if p.state in OPEN or (p.state == "succeeded" and max(p.at, p.succeeded_at) > since)]
        return same[-1] if same else None

    def _capped(self) -> bool:
        since = self.now - DAY
        running = [p for p in self.paid if p.state in {*UNDER_WAY, "unknown"} and p.at > since]
        spent = [COST for p in self.paid if p.state != "rejected" and p.at > since]
        return len(running) >= RUNNING_MOST or sum(spent) + COST > DAY_MOST

    @precondition(lambda self: any(len(p.life) > 1 and p.made for p in self.paid))
    @rule(data=st.data())
    def a_task_moves_on(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([p for p in self.paid if len(p.life) > 1 and p.made]))
        del task.life[0]
        self._say(task)

    def _say(self, task: Paid) -> None:
        """Let the gateway answer queries about a task."""
        if task.made is not None:
            answer = says({"code": "success", "data": {"task_id": task.made, "status": task.life[0]}})
            self.gateway.on("GET", f"{CREATE}/{task.made}", replace(answer, headers=GONE))

    @rule(seconds=st.sampled_from([1, MINUTE, 11 * MINUTE, DAY + 1, -MINUTE, -2 * DAY]))
    def the_clock_moves(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: any(p.state == "unknown" for p in self.paid))
    @rule(data=st.data(), it_ran=st.booleans())
    def a_person_settles(self, data: st.DataObject, it_ran: bool) -> None:
        paid = data.draw(st.sampled_from([p for p in self.paid if p.state == "unknown"]))
        video = self.portal.call(self.studio.settle, paid.request_id, paid.made if it_ran else None)
        assert (video.state == "rejected") is not it_ran
        assert video.request_id == paid.request_id

    @precondition(lambda self: any(p.state in UNDER_WAY for p in self.paid))
    @rule(data=st.data())
    def a_person_gives_up_what_the_gateway_forgot(self, data: st.DataObject) -> None:
        paid = data.draw(st.sampled_from([p for p in self.paid if p.state in UNDER_WAY]))
        self.gateway.on("GET", f"{CREATE}/{paid.made}", FORGOTTEN)
        if 0 <= self.now - paid.at < FORGOTTEN_AFTER_S:
            with pytest.raises(NotFound, match="not know its task yet"):
                self.portal.call(self.studio.settle, paid.request_id, None)
            self._say(paid)
            return
        paid.life = ["FORGOTTEN"]
        assert self.portal.call(self.studio.settle, paid.request_id, None).state == "failed"

    @precondition(lambda self: self.paid)
    @rule(data=st.data())
    def an_agent_looks(self, data: st.DataObject) -> None:
        paid = data.draw(st.sampled_from(self.paid))
        video = self.portal.call(self.studio.get, paid.request_id)
        assert video.request_id == paid.request_id

    @rule()
    def an_agent_lists(self) -> None:
        listed, cursor = [], None
        while True:
            page = self.portal.call(self._page, cursor)
            listed += [video.request_id for video in page.videos]
            if (cursor := page.next_cursor) is None:
                break
        assert listed == [p.request_id for p in reversed(self.paid)]

    async def _page(self, cursor: str | None) -> VideoList:
        return await self.studio.list_videos(limit=2, cursor=cursor)

    @invariant()
    def every_row_is_one_post_and_went_where_it_may(self) -> None:
        assert len(self.gateway.creates()) == len(self.paid)
        rows = self._rows()
        history = self._rows("SELECT request_id, state FROM history ORDER BY number")
        assert [row[0] for row in rows] == [p.request_id for p in self.paid]
        self._learn()
        for paid, (request_id, state, task_id) in zip(self.paid, rows, strict=True):
            went = [each for of, each in history if of == request_id]
            assert went[0] == "sending"
            assert went[-1] == state
            assert all(after in TRANSITIONS[before] for before, after in pairwise(went))
            assert task_id in {None, paid.made}

    def _learn(self) -> None:
        """Take over the states that the ledger has now."""
        states = {request_id: state for request_id, state, _ in self._rows()}
        times = dict(self._rows("SELECT request_id, at FROM history WHERE state = 'succeeded'"))
        for paid in self.paid:
            paid.state, paid.succeeded_at = states[paid.request_id], times.get(paid.request_id, 0)

    def _rows(self, sql: str = "SELECT request_id, state, task_id FROM videos ORDER BY number") -> list[Any]:
        return self.store.rows(sql)

    def teardown(self) -> None:
        self.inside.close()
        self.outside.close()


def play(make_store: Callable[[Path], Store], games: int) -> None:
    rules = settings(max_examples=games, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    machine: Any = lambda: Machine(make_store)  # noqa: E731 - a function will do
    run_state_machine_as_test(machine, settings=rules)


def test_whatever_happens_the_ledger_in_a_file_says_what_the_model_says() -> None:
    play(in_file, 30)


def test_whatever_happens_the_ledger_in_postgresql_says_what_the_model_says(cluster: Cluster) -> None:
    play(cluster.store, 6)
