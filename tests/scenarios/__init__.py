"""What comes in, what is logged, what comes of it: whole stories, told as data."""
