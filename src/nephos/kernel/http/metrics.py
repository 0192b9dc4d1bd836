"""Counters of requests, in Prometheus' form."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nephos.kernel.http.routes import Route

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """One registry a server; children are bound once a route, so that observing costs a dictionary look-up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "nephos_requests", "Requests answered.", ["service", "method", "path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "nephos_request_seconds", "Time from route to reply.", ["service"], buckets=_BUCKETS, registry=self.registry
        )
        self._counters: dict[tuple[str, str, str, int], Any] = {}
        self._histograms: dict[str, Any] = {}

    def gauge(self, name: str, words: str) -> Gauge:
        return Gauge(name, words, registry=self.registry)

    def observe(self, service: str, route: Route, status: int, seconds: float) -> None:
        key = (service, route.method, route.path, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(service, route.method, route.path, str(status))
        counter.inc()
        histogram = self._histograms.get(service)
        if histogram is None:
            histogram = self._histograms[service] = self._seconds.labels(service)
        histogram.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
