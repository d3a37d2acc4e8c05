"""The server's metrics in the Prometheus format. Needs the extra `metrics`; loaded on the first request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

from sora_mcp.server.counting import BUCKETS_S, Calls

__all__ = ["CONTENT_TYPE", "exposition"]


def exposition(calls: Calls, states: Mapping[str, int], connections: int) -> bytes:
    """Return all metrics as text of CONTENT_TYPE. `states`: how many videos of the ledger are in each state."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Snapshot([*_call_metrics(calls), *_server_metrics(states, connections, calls.under_way)]))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _call_metrics(calls: Calls) -> Iterator[Metric]:
    counter = CounterMetricFamily("sora_tool_calls", "Tool calls that have ended.", labels=["tool", "outcome"])
    for (tool, outcome), number in sorted(calls.outcomes.items()):
        counter.add_metric([tool, outcome], number)
    yield counter
    histogram = HistogramMetricFamily("sora_tool_call_seconds", "How long tool calls took.", labels=["tool"])
    for tool, durations in sorted(calls.durations.items()):
        bounds = [*(str(each) for each in BUCKETS_S), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(durations.counts)), strict=True))
        histogram.add_metric([tool], buckets, durations.total_s)
    yield histogram


def _server_metrics(states: Mapping[str, int], connections: int, under_way: int) -> Iterator[Metric]:
    videos = GaugeMetricFamily("sora_videos", "Videos in the ledger, of all owners.", labels=["state"])
    for state, number in sorted(states.items()):
        videos.add_metric([state], number)
    yield videos
    yield GaugeMetricFamily("sora_connections", "Connections of clients that are open.", value=connections)
    yield GaugeMetricFamily("sora_tool_calls_under_way", "Tool calls that are under way.", value=under_way)
