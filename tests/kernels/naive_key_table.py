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

    def find(self, times, keys):
        """Return, for each row, the number of its slice if an entry has rows there, else None."""
        numbers = [(time - self.offset) // self.size for time in times]
        return [
            number if self.slices.get(number, {}).get(key) else None
            for number, key in zip(numbers, keys, strict=True)
        ]

    def clear(self, number, keys, dense):
        """Take the rows of keys; those that a slice is dense for, by ``dense(key)``, leave it."""
        counts = self.slices[number]
        for key in keys:
            if dense(key):
                counts.pop(key, None)
            else:
                counts[key] = 0
