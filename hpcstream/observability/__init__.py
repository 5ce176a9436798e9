"""Reports on a job: metrics, progress, the summary, and what holds the watermark back."""
