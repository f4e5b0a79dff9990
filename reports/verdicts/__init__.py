"""Verdicts of nights: whether the newest measurement is slower than its history allows. Pure: values in, values out."""
