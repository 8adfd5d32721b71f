# SPDX-License-Identifier: Apache-2.0
"""What runs on the robot: the node ``event_detector``, from a camera's packets to boxes, classes and diagnostics."""
