"""What live traffic shows: decisions and their outcomes, counted for a specialist against its incumbent."""
