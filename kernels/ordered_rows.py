"""Rows of each key in order: what is kept of them, and what came before each.

A slot (uint32) stands for the key of a row; state of a key is in arrays by slot.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def keep_first(slots, times, within, until, out_keep):
    """Keep rows of which no row of their key was kept less than ``within`` before.

    Parameters
    ----------
    slots : uint32[n]
    times : int64[n]
    within : int64
        Negative: any time before.
    until : int64[capacity]
        Rows before it are duplicates.
    out_keep : bool[n]

    Returns
    -------
    int64
        How many are kept.
    """
    n_kept = 0
    for row in range(slots.shape[0]):
        slot, time = slots[row], times[row]
        is_kept = time >= until[slot]
        out_keep[row] = is_kept
        if is_kept:
            until[slot] = np.int64(2**63 - 1) if within < 0 else time + within
            n_kept += 1
    return n_kept


@lean_njit()
def take_tokens(slots, times, rate, state, out_keep):
    """Let rows through as long as the bucket of their key has a token.

    The generic cell rate algorithm (ITU-T I.371): of a key the time is kept when its bucket
    will be full. That is a whole number of ticks and of parts of one, so it is exact.

    Parameters
    ----------
    slots : uint32[n]
    times : int64[n]
    rate : (int64, int64, int64, int64, int64)
        Ticks and parts that a token takes, parts of a tick, ticks and parts that an empty
        bucket less one token takes.
    state : (int64[capacity], int64[capacity])
        Ticks and parts at which the bucket of each slot is full.
    out_keep : bool[n]

    Returns
    -------
    int64
        How many are let through.
    """
    token, token_parts, n_parts, burst, burst_parts = rate
    full, full_parts = state
    n_kept = 0
    for row in range(slots.shape[0]):
        slot, time = slots[row], times[row]
        at, parts = full[slot], full_parts[slot]
        if at < time:
            at, parts = time, np.int64(0)
        is_kept = at - time < burst or (at - time == burst and parts <= burst_parts)
        out_keep[row] = is_kept
        if is_kept:
            n_kept += 1
            at += token
            parts += token_parts
            if parts >= n_parts:
                at += 1
                parts -= n_parts
            full[slot] = at
            full_parts[slot] = parts
    return n_kept


def warm_up():
    """Compile for the arguments the engine passes: times of Arrow are read-only."""
    slots, state = np.zeros(0, dtype=np.uint32), np.zeros(1, dtype=np.int64)
    times, keep = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    times.setflags(write=False)
    keep_first(slots, times, 0, state, keep)
    take_tokens(slots, times, (0, 0, 1, 0, 0), (state, state), keep)
