"""What befalls a machine over a month: when it is off, which runs die, and when its source is silent."""

import random
from dataclasses import dataclass, field

FAILS, KILLED, SILENT = 0.04, 0.02, 0.03  # of the ticks at which the machine is on
CALM = 14  # ticks at the end without any trouble: longer than the longest wait of a day that lacked something


@dataclass
class Story:
    """What a seed has drawn: when the machine is off, and what befalls the ticks at which it is on."""

    off: set[int] = field(default_factory=set)
    befalls: dict[int, str] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)

    @classmethod
    def drawn(cls, random_: random.Random, ticks: int) -> "Story":
        story, tick = cls(), 3
        while tick < ticks - CALM:
            tick += int(random_.expovariate(1 / 16)) + 2  # on for most of a day
            hours = random_.randint(1, 12) if random_.random() < 0.6 else random_.randint(20, 90)
            story.off |= set(range(tick, min(tick + hours, ticks - CALM)))
            tick += hours
        for tick in range(1, ticks - CALM):
            if tick not in story.off:
                fate = random_.random()
                if fate < FAILS + KILLED:
                    story.befalls[tick] = "fails" if fate < FAILS else "killed"
                elif fate < FAILS + KILLED + SILENT:
                    story.silent |= set(range(tick, min(tick + random_.randint(1, 10), ticks - CALM)))
        return story
