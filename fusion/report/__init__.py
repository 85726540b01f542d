"""A search as a page: numbers in, files out. One HTML file that needs no network, and its figures.

results/ + stores + labels -> facts -> figures, tables, pictures of frames -> report.html
"""
