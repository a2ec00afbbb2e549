"""Draws the figures that `bench` left: one SVG, two groups of bars."""

import json

WIDTH, HEIGHT, LEFT, BASE = 760, 340, 60, 270
OURS, BARE, INK = "#2a6f97", "#a9b4bc", "#333333"


def bars(x, title, unit, rows, top):
    """One group: for each row, ours beside the bare one's; `top` is the value of full height."""
    parts = [f'<text x="{x}" y="40" font-weight="bold">{title}</text>', f'<text x="{x}" y="58">{unit}</text>']
    for place, (name, ours, bare) in enumerate(rows):
        left = x + place * 110
        for offset, value, fill in ((0, ours, OURS), (42, bare, BARE)):
            height = 180 * value / top
            parts.append(f'<rect x="{left + offset}" y="{BASE - height:.1f}" width="38" height="{height:.1f}" fill="{fill}"/>')
            parts.append(f'<text x="{left + offset + 19}" y="{BASE - height - 6:.1f}" text-anchor="middle">{value:,.0f}</text>')
        parts.append(f'<text x="{left + 40}" y="{BASE + 18}" text-anchor="middle">{name}</text>')
    return parts


def draw(out):
    found = json.loads((out / "throughput.json").read_text())
    table = found["table"]
    rates = [(name, table[name]["rate"], table[f"{name}, bare"]["rate"]) for name in ("get_feeds", "create_feed")]
    spent = [(name, table[name]["gateway_us"], table[f"{name}, bare"]["gateway_us"]) for name in ("get_feeds", "create_feed")]
    spent.append(("feed", table["get_feeds, bare"]["feed_us"], table["get_feeds, both bare"]["feed_us"]))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{INK}">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    parts += bars(LEFT, "Throughput", "requests a second, 32 connections", rates, max(max(row[1:]) for row in rates))
    parts += bars(LEFT + 300, "Processor time", "microseconds a request", spent, max(max(row[1:]) for row in spent))
    parts += [f'<rect x="{LEFT}" y="305" width="12" height="12" fill="{OURS}"/><text x="{LEFT + 18}" y="315">ours</text>',
              f'<rect x="{LEFT + 70}" y="305" width="12" height="12" fill="{BARE}"/><text x="{LEFT + 88}" y="315">bare axum and tonic</text>',
              f'<text x="{LEFT + 300}" y="315">{found["date"]}, {found["cores"]} cores ({found["processor"]})</text>', "</svg>"]
    (out / "performance.svg").write_text("\n".join(parts) + "\n")
    print(f"drawn: {out / 'performance.svg'}")
