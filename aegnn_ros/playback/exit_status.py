# SPDX-License-Identifier: Apache-2.0
"""How the commands end that play a bag to a node."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from aegnn_ros.playback.node_process import NodeProcessError

__all__ = ["exit_status"]


def exit_status(command: str, run: Callable[[], None]) -> int:
    """Run a command to its end; an error is one sentence that begins with its name.

    Returns:
        0; 1 where the node failed, 2 where an argument or the bag is wrong, 130 when ended by a signal.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends the command ends the node with it
    try:
        run()
    except NodeProcessError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
