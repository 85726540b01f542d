"""Training layer: networks that fill logit stores. Nothing in ``fusion`` imports it.

    data (VSPW or folders) -> train (TOML) -> weights -> predict -> logit store

    registry    what a network is, and the names of all
    networks    one network per file
    data        clips (images and masks), augment (views), samples, source (options), statistics
    training    config, its keys, losses, schedule, optimiser, precision, swa, ema; architecture,
                checkpoint, state, changes, start; splits, validation, log; distributed,
                preemption, hints; run, overfit
    tta         test-time augmentation

``python -m fusion.models.train``, ``predict`` and ``statistics`` are the commands; for a network of
one's own see `registry`.
"""
