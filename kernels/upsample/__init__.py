"""The average at label resolution, from maps at their own."""
