"""What whole data sets take: `python -m benchmarks.scale`.

A stage has a rate (median and spread, measured here on one thread, or predicted for a GPU), a
workload amounts (counted), a machine so many cores, GPUs and bytes a second of its disk (given).
A stage keeps one of these busy for amount / (rate x number). Where everything overlaps, the whole
takes as long as its busiest resource; where nothing does, as long as all stages together. Nothing
else is in the model: no cold start, no failures, no waiting for a scheduler beyond `efficiency`.

model     the arithmetic, machines: who it is for, rates: what is measured, growth: whether amounts
may be multiplied at all, printed: tables.
"""
