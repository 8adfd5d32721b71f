# SPDX-License-Identifier: Apache-2.0
"""Training; needs the extra `train` (Lightning).

``train.py`` leads a sample through the rooms: ``samples``, ``learning``, and ``runs``, where the weights become files.
"""
