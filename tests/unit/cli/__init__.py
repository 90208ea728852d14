"""Commands without a system behind them."""
