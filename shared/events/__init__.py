"""Event envelope, codec and tolerant decoding of what direct producers send."""
