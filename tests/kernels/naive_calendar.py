def numbers_of_times(times, starts, first):
    numbers = []
    for time in times:
        inside = [n for n in range(len(starts) - 1) if starts[n] <= time < starts[n + 1]]
        numbers.append(first + inside[0])
    return numbers
