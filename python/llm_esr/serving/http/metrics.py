"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llm_esr_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "llm_esr_request_seconds", "Time from the request's head to its answer.", ["path"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram("llm_esr_batch_lists", "Lists of a batch.", buckets=_SIZES, registry=self.registry)
        self.waiting = Gauge("llm_esr_waiting_lists", "Lists that wait for the model.", registry=self.registry)
        self.reloads = Counter("llm_esr_reloads", "Attempts to swap the model.", ["result"], registry=self.registry)
        self.model = Gauge("llm_esr_model", "1 for the model that is served.", ["name", "loaded"],
                           registry=self.registry)  # fmt: skip

    def serves(self, name: str, loaded: str) -> None:
        """Another model is served from now on."""
        self.model.clear()
        self.model.labels(name, loaded).set(1)

    def text(self) -> bytes:
        """The page, in Prometheus' text format."""
        return generate_latest(self.registry)
