"""The obvious versions of `hpcstream.kernels.strings`, on lists."""


def equal_to(texts, wanted):
    return [text == wanted for text in texts]


def true_rows(flags):
    return [row for row, flag in enumerate(flags) if flag]
