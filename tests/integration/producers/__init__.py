"""Requests straight from Kafka clients, computed by the real service."""
