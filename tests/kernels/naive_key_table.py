"""The table of slices as dictionaries."""


class NaiveSlices:
    """Counts rows per (slice, key); keys of a slice stay in order of arrival."""

    def __init__(self, size, offset):
        self.size, self.offset = size, offset
        self.slices = {}

    def add(self, times, keys, first_open=None):
        """Count rows; return which were late."""
        late = []
        for time, key in zip(times, keys, strict=True):
            number = (time - self.offset) // self.size
            late.append(first_open is not None and number < first_open)
            if not late[-1]:
                counts = self.slices.setdefault(number, {})
                counts[key] = counts.get(key, 0) + 1
        return late
