"""The benchmark behind ``make bench``: apistar-ws and its peers, measured side by side."""
