from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.analysis import formatting
from reports.analysis.scaling import Parameter
from reports.analysis.stats import Estimate

PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SMALL_PREFIXES = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3}
SECONDS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def made(value, low=None, high=None, unit="samples/s"):
    return Estimate(value=value, low=low, high=high, n=3, unit=unit)


def read(shown):
    """The value of a number as it is shown, with its prefix."""
    digits, prefix = re.fullmatch(r"(-?[\d,.]+(?:e[+-]\d+)?)([kMGTPE]?)", shown).groups()
    return float(digits.replace(",", "")) * PREFIXES[prefix]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1.2e-9, "1.20e-09"),
        (0.00123, "0.00123"),
        (0.9999, "1.00"),
        (3.14159, "3.14"),
        (980, "980"),
        (9999, "9,999"),
        (15_812, "15.8k"),
        (999_960, "1.00M"),
        (1.5e9, "1.50G"),
        (-2.5e6, "-2.50M"),
        (3e22, "3.00e+22"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "unknown"),
    ],
)
def test_numbers(value, shown):
    assert formatting.number(value) == shown


@given(st.floats(min_value=1e-12, max_value=1e25))
def test_a_number_is_within_half_a_unit_of_its_third_digit(value):
    assert read(formatting.number(value)) == pytest.approx(value, rel=0.00501)
    assert formatting.number(-value) == f"-{formatting.number(value)}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (made(16_400, 5_290, 51_000), "16.4k (5.3k–51.0k) samples/s"),
        (made(16_400, 52, 51e6), "16.4k (52.0–51.0M) samples/s"),
        (made(16_400, 0, math.inf), "16.4k (0–∞) samples/s"),
        (made(9_800, 8_000, 12_100), "9,800 (8,000–12.1k) samples/s"),
        (made(12_400), "12.4k samples/s"),
        (made(1.6, unit="×"), "1.60"),
        (made(2.0, -1.0, 5.0, "cores"), "2.00 (-1.00 to 5.00) cores"),
        (made(1.67e9, 1.42e9, 1.97e9, "B/s"), "1.67 (1.42–1.97) GB/s"),
        (made(1.67e9, 1.42e3, 1.97e12, "B/s"), "1.67 GB/s (1,420 B/s–1.97 TB/s)"),
        (made(2.19e-4, 2.17e-4, 2.21e-4, "J/sample"), "219 (217–221) µJ/sample"),
        (made(12_300, 11_000, 14_000, "J/sample"), "12.3 (11.0–14.0) kJ/sample"),
        (made(0.02, 1e-6, 3, "J/sample"), "20.0 mJ/sample (1.00 µJ/sample–3.00 J/sample)"),
        (made(1.522e15, unit="FLOP/s"), "1.52 PFLOP/s"),
        (made(0.0123, 0.011, 0.014, "s"), "12.3 (11.0–14.0) ms"),
        (made(1.2e-7, 1e-7, 1.4e-7, ""), "1.20e-07 (1.00e-07–1.40e-07)"),
        (made(math.nan), "unknown"),
        (None, "–"),
    ],
)
def test_an_interval_keeps_the_unit_and_the_prefix_of_its_value(value, shown):
    assert formatting.estimate(value) == shown


@given(st.floats(min_value=1e-6, max_value=1e15), st.floats(min_value=1, max_value=1e6), st.floats(1, 1e6))
def test_the_ends_of_an_interval_can_be_read_without_its_value(value, below, above):
    shown = formatting.estimate(made(value, value / below, value * above))
    ends = re.fullmatch(r"\S+ \((.*)–(.*)\) samples/s", shown)
    # Two digits at least, of each end by itself.
    assert read(ends[1]) == pytest.approx(value / below, rel=0.0501)
    assert read(ends[2]) == pytest.approx(value * above, rel=0.0501)


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_a_time_is_read_back_from_its_digits_and_its_unit(time_s):
    digits, unit = formatting.duration(time_s).split(" ")
    assert read(digits) * SECONDS[unit] == pytest.approx(time_s, rel=0.0051)


@given(st.floats(min_value=1e-12, max_value=1e9))
def test_an_energy_is_read_back_from_its_digits_and_its_prefix(energy_j):
    digits, prefix = re.fullmatch(r"(\S+) (.*)J/sample", formatting.estimate(made(energy_j, unit="J/sample"))).groups()
    assert read(digits) * (PREFIXES | SMALL_PREFIXES)[prefix] == pytest.approx(energy_j, rel=0.0051)


def test_rates_of_bytes_have_a_space_before_their_unit():
    assert formatting.byte_rate(134.2e6) == "134 MB/s"
    assert formatting.byte_rate(980) == "980 B/s"
    per_byte = Parameter(value=4e-10, low=2e-10, high=8e-10, standard_error=None)
    assert formatting.bandwidth(per_byte) == "2.50 (1.25–5.00) GB/s"
    assert formatting.latency(Parameter(value=3.55e-4, low=3.01e-4, high=4.19e-4, standard_error=None)) == (
        "355 (301–419) µs"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (made(0.714, 0.68, 0.741), "71 % (68–74 %)"),
        (made(0.004, 0.002, 0.007), "0.4 % (0.2–0.7 %)"),
        (made(0.0), "0 %"),
        (made(1e-5), "<0.1 %"),
        (made(0.02, -0.01, 0.05), "2 % (-1 to 5 %)"),
        (made(12.3), "1,230 %"),
        (made(math.nan), "unknown"),
        (None, "–"),
    ],
)
def test_shares(value, shown):
    assert formatting.percent(value) == shown


def test_what_is_compared_with_itself_is_not_shown_as_measured():
    by_definition, measured = made(1.0, unit="1"), made(1.0, 0.98, 1.02, "1")
    assert formatting.efficiency(by_definition) == "baseline"
    assert formatting.speedup(made(2.0, unit="×"), by_definition) == "baseline", "where the fewest ranks are two"
    assert formatting.efficiency(measured) == "100 % (98–102 %)"
    assert formatting.speedup(made(2.0, 1.96, 2.04, "×"), measured) == "2.00 (1.96–2.04)"
    assert (formatting.efficiency(None), formatting.speedup(None, None)) == ("–", "–")


def test_a_range_has_its_unit_at_all_magnitudes():
    assert formatting.with_range(468e6, 300e6, 585e6, "B/s") == "468 (300–585) MB/s"
    assert formatting.with_range(468e6, 300, 585e9, "B/s") == "468 MB/s (300 B/s–585 GB/s)"
    assert formatting.with_range(0.71, 0.68, 0.74, "1") == "71 % (68–74 %)"
    assert formatting.with_range(0.71, 0.711, 0.709, "1") == "71 %"
    assert formatting.with_range(3.0, 3.0, 3.0, "cores") == "3.00 cores"


@pytest.mark.parametrize(("size", "shown"), [(4, "4 B"), (1024, "1 KiB"), (64 * 2**20, "64 MiB"), (2**30, "1 GiB")])
def test_message_sizes(size, shown):
    assert formatting.message_size(size) == shown


def test_singular_and_plural():
    assert [formatting.counted(count, "cell") for count in (0, 1, 2, 1200)] == [
        "0 cells",
        "1 cell",
        "2 cells",
        "1,200 cells",
    ]
    assert formatting.counted(2, "entry", "entries") == "2 entries"
