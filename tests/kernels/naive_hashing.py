"""The obvious version of each kernel in hpcstream.kernels.hashing, in Python's integers."""

import numpy as np

WORD = 2**64 - 1
PRIME_1, PRIME_2 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
PRIME_4, PRIME_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
NULL_HASH = 0x5851F42D4C957F2D


def rotate(word, bits):
    return (word << bits | word >> (64 - bits)) & WORD


def mix(word):
    word = (word + 0x9E3779B97F4A7C15) & WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return word ^ word >> 31


def hash_word(word):
    return mix(word & WORD)


def hash_bytes(key):
    state = (len(key) + PRIME_5) & WORD
    for start in range(0, len(key), 8):
        word = int.from_bytes(key[start : start + 8], "little")
        state ^= rotate(word * PRIME_2 & WORD, 31) * PRIME_1 & WORD
        state = (rotate(state, 27) * PRIME_1 + PRIME_4) & WORD
    return mix(state)


def gather_hashes(dictionary_hashes, indices):
    known = range(len(dictionary_hashes))
    return [int(dictionary_hashes[i]) if i in known else NULL_HASH for i in indices]


def combine_hashes(before, following):
    pairs = zip(before, following, strict=True)
    return [mix((int(b) * PRIME_1 + int(f)) & WORD) for b, f in pairs]


def as_hashes(values):
    return np.array(values, dtype=np.uint64)
