"""The obvious version of each kernel in hpcstream.kernels.partition."""

import numpy as np


def partition_of_hashes(hashes, n_partitions):
    groups = [int(key_hash) >> 52 for key_hash in hashes]
    return [group * n_partitions // 4096 for group in groups]


def partition_rows(hashes, n_partitions):
    owner = partition_of_hashes(hashes, n_partitions)
    runs = [[row for row, p in enumerate(owner) if p == part] for part in range(n_partitions)]
    order = np.array([row for run in runs for row in run], dtype=np.int32)
    return order, np.cumsum([0] + [len(run) for run in runs])
