"""NEXMark: auctions, bids and people, and what queries over them cost. See docs/nexmark.md."""
