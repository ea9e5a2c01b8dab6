"""The wide phantom: bodies and scans so varied that a network learns real CTs from them."""
