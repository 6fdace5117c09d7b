"""One rubric point against one answer."""
