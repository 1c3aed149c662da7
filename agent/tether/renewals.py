"""Another key for a running machine: a document that comes, later, from where the first one came.

Owns which one is taken: one of a higher epoch than all before. An old document that is still there,
or is put there again, changes nothing; and nothing that comes over the line ever gives a key.
"""

from __future__ import annotations

from agent.hints import Optional
from agent.tether import config, log
from agent.tether.errors import StartError
from agent.tether.sources import ConfigSource


class Renewals:
    """Looks at `source` for documents of a higher epoch than `epoch`, that of the first."""

    def __init__(self, source: ConfigSource, epoch: int) -> None:
        self._source = source
        self._epoch = epoch

    def look(self) -> Optional[bytes]:
        """Return the key of a new document; None when there is none, or none that counts."""
        try:
            raw = self._source.look_again()
            if raw is None:
                return None
            renewal = config.parse_renewal(config.load_document(raw))
        except StartError as error:
            log.error("a new document is not taken: {}".format(error.message))
            return None
        if renewal.epoch <= self._epoch:
            text = "a document of epoch {} is not taken: this is epoch {}"
            log.error(text.format(renewal.epoch, self._epoch))
            return None
        self._epoch = renewal.epoch
        return renewal.key
