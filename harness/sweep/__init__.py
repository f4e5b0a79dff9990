"""One sweep: from the plan to stored trials and the report."""
