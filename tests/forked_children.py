# SPDX-License-Identifier: Apache-2.0
"""Children that a test has forked."""

import signal

__all__ = ["end_after"]


def end_after(seconds: int) -> None:
    """End this process after so long if it waits without end, in compiled code too: no handler of Python runs there."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
