"""Whatever happens to the ledger, whenever: one accepted POST at most, and never a no where the gateway said yes."""

from __future__ import annotations

import sys

import anyio
import pytest

if sys.platform != "linux":
    pytest.skip("limits of another process can be set on Linux alone", allow_module_level=True)

from ledger_faults import AT_REST, CASES, DURING, IN_POSTGRES, PAGE, Case, Outcome, measure_all, table
from postgres import Cluster

AGREES = {
    "accepted": {"submitted", "rejected, submitted", "rejected, rejected, submitted"},
    "accepted, the first": {"submitted", "rejected, submitted"},
    "unknown": {"unknown"},
}
"""What stands in the ledger after each answer, once all is over."""


@pytest.fixture(scope="module")
def measured() -> dict[Case, Outcome]:
    return anyio.run(measure_all, CASES)


@pytest.fixture(scope="module")
def in_postgres(cluster: Cluster) -> dict[Case, Outcome]:
    return anyio.run(measure_all, IN_POSTGRES, cluster.store)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.moment}-{case.name}")
def test_a_create_whose_ledger_has_trouble_is_accepted_once_at_most_and_told_as_it_is(
    case: Case, measured: dict[Case, Outcome]
) -> None:
    check(case, measured[case])


@pytest.mark.parametrize("case", IN_POSTGRES, ids=lambda case: f"{case.moment}-{case.name}")
def test_so_is_one_whose_database_has_trouble(case: Case, in_postgres: dict[Case, Outcome]) -> None:
    check(case, in_postgres[case])


def check(case: Case, seen: Outcome) -> None:
    assert seen.accepted <= 1
    assert seen.recorded in AGREES[seen.afterwards]
    if (seen.afterwards, seen.recorded) == ("accepted, the first", "rejected, submitted"):
        assert (seen.outcome, seen.meanwhile) == ("rejected", "accepted")  # each was told what became of its own
    if case.moment in {DURING, AT_REST}:  # the gateway had accepted it by then
        assert seen.posts == 1
        assert seen.outcome in {"accepted", "unknown"}
        assert seen.meanwhile in {"accepted, the first", "unknown", "not_submitted", "still waiting"}
        assert seen.afterwards != "accepted"


def test_the_page_says_what_was_measured(measured: dict[Case, Outcome]) -> None:
    assert_written(measured)


def test_the_page_says_what_was_measured_in_postgresql(in_postgres: dict[Case, Outcome]) -> None:
    assert_written(in_postgres)


def assert_written(measured: dict[Case, Outcome]) -> None:
    assert table(measured) in PAGE.read_text(encoding="utf-8"), "python tests/support/ledger_faults.py writes it anew"
