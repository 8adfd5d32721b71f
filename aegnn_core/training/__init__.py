# SPDX-License-Identifier: Apache-2.0
"""Training; needs the extra `train` (Lightning)."""
