"""The obvious version of each kernel in `hpcstream.kernels.join`, on Python lists."""


def index_keys(keys):
    codes = {}
    of_row = [codes.setdefault(key, len(codes)) for key in keys]
    return of_row, [of_row.index(code) for code in range(len(codes))]


def find_keys(keys, table_keys):
    return [table_keys.index(key) if key in table_keys else -1 for key in keys]


def pair_codes(left, right, n_right):
    return [
        -1 if min(pair) < 0 else pair[0] * n_right + pair[1]
        for pair in zip(left, right, strict=True)
    ]


def expand_matches(codes, starts, keep_unmatched):
    pairs = []
    for row, code in enumerate(codes):
        if code >= 0:
            pairs += [(row, match) for match in range(starts[code], starts[code + 1])]
        elif keep_unmatched:
            pairs.append((row, -1))
    return pairs
