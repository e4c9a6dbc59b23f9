"""Methods, tasks, models and seeds, compared on equal terms."""
