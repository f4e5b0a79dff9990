"""The summary of a sweep in other places than its page: Markdown, figures as SVG and PNG, a badge."""
