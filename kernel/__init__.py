"""What an order is, the log, and the loop that makes the exchange agree."""
