"""The pages of the site, and what makes them: python -m mkdocs build --strict."""
