"""Named places where a process can be made to die as if its power were cut: for the fault suite, and inert everywhere else.

What belongs here: the names, and the one switch. Nothing but tests throws it; production code only says where it is.
"""

import os
import signal
from dataclasses import dataclass

from tft_pipeline.errors import ConfigError

# In the order in which one asset's run passes them.
NAMES = (
    "asset: begun",
    "asset: claimed",
    "writer: validated",
    "writer: partitions made",
    "writer: staged",
    "writer: locked",
    "writer: copied",
    "writer: old rows gone",
    "writer: new rows in",
    "writer: recorded",
    "writer: before commit",
    "writer: month committed",
    "writer: all committed",
    "asset: before its event",
)
# In the order in which one month past retention passes them (storage.retention).
UPKEEP_NAMES = (
    "upkeep: before a detach",
    "upkeep: detached",
    "upkeep: out of the ledger",
    "upkeep: moved",
    "upkeep: recorded",
    "upkeep: filed away",
)


@dataclass
class _Armed:
    name: str
    visits: int  # left until it goes off


_armed: _Armed | None = None


def arm(name: str, visit: int = 1) -> None:
    """Die by SIGKILL at the so-manieth visit of the place, counted from now. Raises ConfigError: no such place."""
    global _armed  # noqa: PLW0603 - one switch a process is the point
    if name not in (*NAMES, *UPKEEP_NAMES):
        raise ConfigError(f"no crash point {name!r}; there are {', '.join((*NAMES, *UPKEEP_NAMES))}.")
    _armed = _Armed(name, visit)


def reached(name: str) -> None:
    """The process is at this place."""
    if _armed is None or _armed.name != name:
        return
    _armed.visits -= 1
    if _armed.visits == 0:
        os.kill(os.getpid(), signal.SIGKILL)
