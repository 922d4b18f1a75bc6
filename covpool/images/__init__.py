"""Untrusted pictures to arrays, by one opener."""
