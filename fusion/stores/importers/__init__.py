"""What others wrote, as stores: one file per kind of source."""
