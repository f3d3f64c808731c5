"""Numbers about the controllers' queues, under kube-controller-manager's names, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nodeport.client.workqueue import WorkQueue
from nodeport.controllers.loop import ReconcileLoop

_QUEUE_METRICS: tuple[tuple[str, str, Callable[[WorkQueue[Any]], float]], ...] = (
    ("workqueue_depth", "gauge", len),
    ("workqueue_adds_total", "counter", lambda queue: queue.adds),
    ("workqueue_retries_total", "counter", lambda queue: queue.retries),
    ("workqueue_unfinished_work_seconds", "gauge", lambda queue: sum(queue.ages())),
    ("workqueue_longest_running_processor_seconds", "gauge", lambda queue: max(queue.ages(), default=0.0)),
)


def loops_of(controllers: Iterable[object]) -> Iterator[ReconcileLoop[Any]]:
    """The reconcile loops that controllers have as members."""
    for controller in controllers:
        for member in vars(controller).values():
            if isinstance(member, ReconcileLoop):
                yield member


def lines(loops: Iterable[ReconcileLoop[Any]]) -> Iterator[str]:
    """A sample of each metric for each loop, by name."""
    found = sorted(loops, key=lambda loop: loop.name)
    for metric, kind, value in _QUEUE_METRICS:
        yield f"# TYPE {metric} {kind}"
        for loop in found:
            yield f'{metric}{{name="{loop.name}"}} {value(loop.queue):g}'
    yield "# TYPE nodeport_controller_failures_total counter"
    for loop in found:
        yield f'nodeport_controller_failures_total{{name="{loop.name}"}} {loop.failures}'
