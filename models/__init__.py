"""Training layer: networks that fill logit stores. Nothing in ``fusion`` imports it."""
