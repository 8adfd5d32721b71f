# SPDX-License-Identifier: Apache-2.0
"""The first room of a training: from recordings to batches."""
