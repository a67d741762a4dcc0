"""Self-contained HTML pages: style, program and pictures are inside, and they make no request."""
