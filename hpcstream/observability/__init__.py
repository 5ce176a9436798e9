"""Reports on a job: metrics, progress, the summary, stalled watermarks."""
