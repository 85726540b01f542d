"""The compiled loops: one build, one table of their signatures, one pool of threads."""
