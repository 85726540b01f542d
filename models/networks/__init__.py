"""The networks that come with the library, one per file."""
