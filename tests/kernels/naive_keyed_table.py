"""The obvious version of `kernels.keyed_table`: a dictionary, and a stack of free slots."""

NEVER = 2**63 - 1


class Table:
    """Keys in slots counted from 1; a key None is null."""

    def __init__(self):
        self.slots, self.free, self.end, self.due = {}, [], 1, {}

    def resolve(self, keys):
        return [self._slot(key) for key in keys]

    def _slot(self, key):
        if key not in self.slots:
            if self.free:
                self.slots[key] = self.free.pop()
            else:
                self.slots[key] = self.end
                self.end += 1
        return self.slots[key]

    def find(self, keys):
        return [self.slots.get(key, 0) for key in keys]

    def release(self, slots):
        of_slot = {slot: key for key, slot in self.slots.items()}
        for slot in slots:
            del self.slots[of_slot[slot]]
            self.due.pop(slot, None)
            self.free.append(slot)

    def set_due(self, slots, times):
        self.due.update(zip(slots, times, strict=True))

    def expired(self, watermark):
        found = sorted((t, s) for s, t in self.due.items() if t < watermark and t != NEVER)
        for _, slot in found:
            del self.due[slot]
        return [slot for _, slot in found], [time for time, _ in found]
