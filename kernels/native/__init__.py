"""The compiled loops: which library, one table of its signatures, one pool of threads."""
