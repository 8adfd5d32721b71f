# SPDX-License-Identifier: Apache-2.0
"""The second room of a training: from batches to the loss, and from answers to figures."""
