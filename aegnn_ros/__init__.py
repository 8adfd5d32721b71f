# SPDX-License-Identifier: Apache-2.0
"""A ROS 2 node around ``aegnn_core``: messages in, messages out, no algorithm of its own.

``detector`` is what runs on the robot, ``playback`` what plays recordings to it and measures it; what lies beside these
two is used by both.
"""
