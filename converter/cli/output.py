"""What one command says: result on stdout, everything else on stderr. Owns the chosen forms."""

from __future__ import annotations

import json
from threading import Lock

import click

from converter.cli.progress import Renderer, make_renderer
from converter.events import Event


class Output:
    """The forms that the top command's options chose, and the renderer that is at work."""

    def __init__(self) -> None:
        """Begin with the defaults, which hold until the options have been read."""
        self.format = "text"
        self.passes_exit_code = False  # of a guest's process: failures of ours are 125
        self.debug = False
        self.verbose = False
        self._style = "auto"
        self._renderer: Renderer | None = None
        self._rendering = Lock()  # events come from several threads

    def configure(self, *, verbose: bool, progress: str, debug: bool) -> None:
        """Take over the top command's options."""
        self.verbose = verbose
        self.debug = debug
        self._style = progress

    @property
    def progress_style(self) -> str:
        """Which of `converter.cli.progress.STYLES` was chosen."""
        return self._style

    def monitor(self, event: Event) -> None:
        """Be the core's monitor: render `event` on stderr. For any thread."""
        with self._rendering:
            if self._renderer is None:
                self._renderer = make_renderer(self._style, verbose=self.verbose)
            self._renderer.show(event)

    def close(self) -> None:
        """Take progress off the terminal, so that what follows stands alone."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def result(self, text: str, document: dict[str, object]) -> None:
        """Print a command's result in the form that was asked for."""
        self.close()
        click.echo(json.dumps(document, indent=1) if self.format == "json" else text)
