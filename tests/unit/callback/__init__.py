"""Tests of the callback service's parts."""
