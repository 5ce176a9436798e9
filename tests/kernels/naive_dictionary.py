"""The obvious version of each kernel in hpcstream.kernels.dictionary."""

from itertools import pairwise


def compact_dictionary(indices, n_entries, order, offsets):
    """Return new indices, and for each partition the entries it uses in order of first use."""
    new_indices, used = [], []
    for first, stop in pairwise(offsets):
        entries = [int(indices[row]) for row in order[first:stop]]
        known = list(dict.fromkeys(entry for entry in entries if 0 <= entry < n_entries))
        new_indices += [known.index(entry) if entry in known else 0 for entry in entries]
        used.append(known)
    return new_indices, used
