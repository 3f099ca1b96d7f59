"""End the process where taking its mount down takes too long.

A disk that does not answer holds up whoever waits for it, and no thread that waits for it can be
called off. What was acknowledged is in the journal, so a process that just ends loses no more than
a killed one (P1), while one that stays would keep the state folder from the next mount, for ever.

Concurrency: a thread of its own, so that it does not depend on what hangs.
"""

import faulthandler
import logging
import os
import threading

ENDS_WITHIN_S = 90.0
"""More than all that is allowed to bring what is in memory to disk, one after the other."""

GAVE_UP = 75
"""Exit code: temporary failure, of sysexits(3)."""

log = logging.getLogger("mountd.ending")


def leave() -> None:
    """End this process now; the log tells what each thread was waiting for."""
    log.error("the end of the mount takes too long: ended as if killed, the next mount goes on")
    faulthandler.dump_traceback()
    logging.shutdown()
    os._exit(GAVE_UP)


class Ending:
    """Bounds the end of one mount."""

    def __init__(self) -> None:
        self._timer = threading.Timer(ENDS_WITHIN_S, leave)
        self._timer.daemon = True
        self._is_begun = False

    def begin(self) -> None:
        """Note that the mount ends, for whatever reason; only the first call counts."""
        if not self._is_begun:
            self._is_begun = True
            self._timer.start()

    def over(self) -> None:
        """Note that everything was taken down."""
        self._timer.cancel()
