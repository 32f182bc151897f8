# SPDX-License-Identifier: GPL-2.0-only
"""NICs that come up while all are recorded: the probes of a running trace are for those that were there."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from toolkit.capture import start
from toolkit.capture.start import Options

INTERVAL_S = 10.0
"""How often it is looked for them, at most."""


@dataclass
class Newcomers:
    """Looks for NICs that are up and not traced, again and again.

    Those of the first look are left alone: the trace began with them, and does not see them.

    Attributes: `found`, the names of the others.
    """

    options: Options
    found: set[str] = field(default_factory=set)
    _before: set[str] | None = None
    _looked: float = 0.0

    def look(self, traced: Collection[str]) -> set[str]:
        """Return the names of the NICs that came up since the first look; call it as often as you like.

        :param traced: names of the devices that are traced.
        """
        now = time.monotonic()
        if self._before is None:
            self._before, self._looked = start.untraced(self.options, traced), now
        elif now >= self._looked + INTERVAL_S:
            self.found, self._looked = start.untraced(self.options, traced) - self._before, now
        return self.found
