"""A run's folder turned into report.json and report.html."""
