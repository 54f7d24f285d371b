"""The report of a run: one self-contained HTML file that shows what was trained and learned."""

from vje_pyro.report.sections import write_report

__all__ = ["write_report"]
