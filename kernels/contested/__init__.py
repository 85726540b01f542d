"""Which pixels can change their label under some weighting, and their labels under many."""
