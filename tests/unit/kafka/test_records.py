"""What a record weighs: windows are bounded by it."""

from shared.kafka.records import Record


def test_headers_weigh_as_much_as_the_rest() -> None:
    """A direct producer may put everything into them, and a window of such records would fill the memory."""
    assert Record("t", 0, 0, 0, b"k", b"vv", (("name", b"x" * 1_000), ("", b""))).size == 1_007
