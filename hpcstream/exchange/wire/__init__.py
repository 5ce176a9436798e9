"""The wire format: batches to bytes and back."""
