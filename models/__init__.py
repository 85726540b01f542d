"""Training layer: networks that fill logit stores. Nothing in ``fusion`` imports it.

    data (VSPW or folders) -> train (TOML) -> weights -> predict -> logit store

Reading order: registry, plain, losses, data, statistics, config, checkpoint, swa, train, tta, predict. ``python -m fusion.models.train``
and ``python -m fusion.models.predict`` are the two commands; networks of one's own: see `registry`.
"""
