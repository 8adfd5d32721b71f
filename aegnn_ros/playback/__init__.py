# SPDX-License-Identifier: Apache-2.0
"""What surrounds the node: plays recordings to it, measures and draws its answers. None of it runs on the robot."""
