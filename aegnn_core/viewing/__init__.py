# SPDX-License-Identifier: Apache-2.0
"""Looking at recordings: events, labels and a model's answers, as a video or in a viewer."""

from aegnn_core.extras import naming_extras

with naming_extras("evaluation"):
    from aegnn_core.viewing.frames import Frame, Shown, draw_frame, recording_frames
    from aegnn_core.viewing.video import VIDEO_ENDINGS, write_video

__all__ = ["VIDEO_ENDINGS", "Frame", "Shown", "draw_frame", "recording_frames", "write_video"]
