"""A search as a page: numbers in, files out. One HTML file that needs no network, and its figures.

results/ + stores + labels -> facts -> figures, tables, pictures of frames -> report.html
"""

from fusion.report.write import check_report, write_report

__all__ = ["check_report", "write_report"]
