"""Tests of the projector that need neither broker nor database."""
