"""What a guided fuzzer's process is asked to do, as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """What to do: where inputs come from and go to, when to stop (0: never), where to report."""

    corpora: list[str]
    finds: str
    report: str
    seed: int
    cpu_seconds: float = 0
    count: int = 0
    merge_by: str = ""  # merge the second corpus into the first with this program (see `guided`)

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job from its file."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Write the job to its file."""
        path.write_text(json.dumps(asdict(self)))
