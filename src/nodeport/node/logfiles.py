"""Where the logs of a node's containers are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nodeport.api.meta import NamespacedName
from nodeport.node.sandbox import NodeSurroundings


@dataclass(frozen=True, slots=True)
class LogFile:
    """``run_directory`` holds a file ``exit`` once the container has ended, or is gone with its pod."""

    path: Path
    run_directory: Path

    def ended(self) -> bool:
        return not self.run_directory.exists() or (self.run_directory / "exit").exists()


class LogFiles:
    def __init__(self, node: NodeSurroundings) -> None:
        self._node = node

    def find(self, pod: NamespacedName, uid: str, container: str, *, previous: bool) -> LogFile | str:
        """The log of the container's newest (or last but one) run, or why there is none."""
        name = Path(container).name
        directory = self._node.log_directory / f"{pod.namespace}_{pod.name}_{uid}" / name
        runs = {file.name.partition(".")[0] for file in directory.glob("*.log*")}
        attempts = sorted(int(run) for run in runs if run.isdigit())
        if previous and len(attempts) < 2:
            return f'previous terminated container "{container}" in pod "{pod.name}" not found'
        if not attempts:
            return f'container "{container}" in pod "{pod.name}" is waiting to start: ContainerCreating'
        attempt = attempts[-2] if previous else attempts[-1]
        run = self._node.pods_directory / uid / "containers" / name / str(attempt)
        return LogFile(directory / f"{attempt}.log", run)
