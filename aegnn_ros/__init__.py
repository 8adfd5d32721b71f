# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes around ``aegnn_core``: messages in, messages out, no algorithm of their own."""
