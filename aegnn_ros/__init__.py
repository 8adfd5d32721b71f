"""ROS 2 nodes around ``aegnn_core``: messages in, messages out, no algorithm of their own."""
