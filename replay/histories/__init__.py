"""histories

- `divergence`: Where two folds of one log part: the first position, and the first field there.
- `order_history`: One intent's whole story, in order: what was wanted, what was sent, what the venue said, and why.
- `order_history_text`: An intent's story as text: a line for each step, for people; the whole of it, for programs.
- `state_diff`: What lies between two points of a log: what appeared, what changed, field by field, and what went.
- `statement`: The daily statement: what was traded, what it cost and what it earned, by day, owner and symbol.
- `timeline_html`: An intent's story as a picture: one HTML page with inline SVG, which opens offline and asks
  nobody for anything.
"""
