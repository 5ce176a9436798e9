"""What users import: jobs, streams, sources, sinks and windows."""
