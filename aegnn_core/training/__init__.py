"""Training; needs the extra `train` (Lightning)."""
