"""A guided tour of what comes after approval: the front door, a window that confirms, and one that takes back."""
