"""Whatever breaks, whenever it breaks: one accepted POST at most, and never a no where the gateway had said yes."""

from __future__ import annotations

import anyio
import pytest
from faults import PAGE, Case, Outcome, differences, measure_all, postgres_summary_line, published, row, summary_line
from postgres import Cluster

from sora_mcp.config.endpoint import SORA
from sora_mcp.dialects import DIALECTS

AGREES = {
    "accepted": {"submitted"},
    "unknown": {"unknown"},
    "rejected": {"rejected"},
    "not_submitted": {"rejected", "no row"},
}
"""What stands in the ledger after each outcome."""


# asyncio leaves a socket to the collector where a TLS handshake is cancelled, as that of the look at the models is
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*unclosed transport", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def is_told_as_it_is(seen: Outcome) -> bool:
    said_yes = seen.outcome in {"accepted", "unknown"} if seen.accepted else seen.outcome != "accepted"
    return seen.accepted <= 1 and seen.recorded in AGREES[seen.outcome] and said_yes


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_create_that_breaks_is_accepted_once_at_most_and_told_as_the_page_says(dialect: str) -> None:
    """In the words of every dialect: each is measured here, and once."""
    measured = anyio.run(measure_all, dialect)
    assert {(case.moment, case.fault): seen for case, seen in measured.items() if not is_told_as_it_is(seen)} == {}
    assert differences(measured, published()) == {}
    page = PAGE.read_text(encoding="utf-8").splitlines()
    lines = (
        [row(case, seen) for case, seen in measured.items()]
        if dialect == SORA
        else [summary_line(dialect, measured, published())]
    )
    assert [line for line in lines if line not in page] == [], "python tests/support/faults.py writes it anew"


def test_a_create_that_breaks_comes_to_the_same_where_the_ledger_is_in_postgresql(cluster: Cluster) -> None:
    async def measure() -> dict[Case, Outcome]:
        return await measure_all(make_store=cluster.store)

    measured = anyio.run(measure)
    assert differences(measured, published()) == {}
    assert postgres_summary_line(measured, published()) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_a_line_for_every_other_dialect_and_for_no_more() -> None:
    named = [line.split("`")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [SORA, *named] == list(DIALECTS), "python tests/support/faults.py writes it anew"
