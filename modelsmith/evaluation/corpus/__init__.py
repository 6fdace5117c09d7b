"""What an eval set covers."""
