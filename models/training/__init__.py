"""One training run: its configuration, losses, weights and averaging."""
