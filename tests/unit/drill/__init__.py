"""Tests of the drill itself: its verdict, its faults, its schedule."""
