# SPDX-License-Identifier: Apache-2.0
"""Claims a ROS domain that no other run of this package on the machine uses."""

from __future__ import annotations

import random
import socket
from contextlib import closing

__all__ = ["OTHER_DISCOVERY", "claim_ros_domain"]

#: Environment variables that let nodes discover each other outside their domain on the loopback.
OTHER_DISCOVERY = ("ROS_DISCOVERY_SERVER", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_SUPER_CLIENT")

#: Above 101 the ports of Fast DDS may be those that Linux hands out.
_DOMAINS = range(1, 102)
#: A domain is claimed by holding the TCP port that lies so far above this one; ROS uses UDP.
_PORT = 22119


def claim_ros_domain() -> tuple[int, closing[socket.socket]]:
    """The number of a domain, and the claim on it, which lasts until it is closed or the process ends.

    Raises:
        RuntimeError: all domains are taken.
    """
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", _PORT + domain))
        except OSError:
            claim.close()
            continue
        return domain, closing(claim)
    raise RuntimeError(f"all ROS domains from {_DOMAINS.start} to {_DOMAINS[-1]} are in use")
