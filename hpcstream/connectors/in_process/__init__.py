"""Sources and sinks in memory: batches, generated rows, callbacks."""
