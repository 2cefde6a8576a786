"""What the allocator reports and gives back, as Python sees it."""

import firesteel

MIB = 1 << 20


def test_statistics_count_what_is_in_use():
    firesteel.empty_cache()
    before = firesteel.memory_stats()
    kept = firesteel.zeros(4 * MIB)
    during = firesteel.memory_stats()
    added = {key: during[key] - before[key] for key in before if isinstance(before[key], int)}
    assert any(16 * MIB <= value <= 17 * MIB for value in added.values()), added
    del kept
    firesteel.empty_cache()
    after = firesteel.memory_stats()
    assert all(after[key] - before[key] < MIB for key in before if "peak" not in key and "count" not in key)


def test_the_peak_is_kept_until_it_is_reset():
    firesteel.reset_peak_memory_stats()
    firesteel.zeros(4 * MIB)
    peaks = {key: value for key, value in firesteel.memory_stats().items() if "peak" in key}
    assert peaks
    firesteel.reset_peak_memory_stats()
    firesteel.empty_cache()
    firesteel.reset_peak_memory_stats()
    assert all(firesteel.memory_stats()[key] < value for key, value in peaks.items())
