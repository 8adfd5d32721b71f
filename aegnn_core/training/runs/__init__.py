# SPDX-License-Identifier: Apache-2.0
"""The last room of a training: from weights to files, whatever interrupts it."""
