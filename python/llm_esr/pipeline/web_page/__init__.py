"""One HTML file that shows what a run found: figures, plots, example users, data and settings."""

from llm_esr.pipeline.web_page.write import PAGE_NAME, page_html, write_page

__all__ = ["PAGE_NAME", "page_html", "write_page"]
