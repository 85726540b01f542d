"""Training layer: networks that fill logit stores. Nothing in ``fusion`` imports it.

    data (VSPW or folders) -> train (TOML) -> weights -> predict -> logit store

    registry    what a network is, and the names of all
    networks    one network per file
    data        clips (images and masks), augment (views), samples, source (options), statistics,
                headers (sizes), order (epochs), loading (batches), colour, operations, teacher
    training    config, its keys, losses, adjustment, schedule, optimiser, precision, swa, ema;
                architecture, checkpoint, state, changes, start, others (checkpoints of other
                people); splits, validation, log; distributed, preemption, lock, hints; run,
                overfit
    tta         test-time augmentation; `sliding` windows
    members     runs that differ, and their stores; `soup`: their weights averaged, of a `pot`

``python -m fusion.models.train``, ``predict``, ``members``, ``soup`` and ``statistics`` are the
commands; for a network of one's own see `registry`.
"""
