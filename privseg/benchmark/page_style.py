"""How the benchmark page looks."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #16191d; --soft: #5b6570; --line: #d9dee3; --mark: #e3f4e9;
  --accent: #0a7d33; --front: #1f6fb4; --other: #98a2ad; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa5b1; --line: #343b42;
  --mark: #14331f; --accent: #3fbf6f; --front: #5aa9ee; --other: #6f7a86; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 78rem;
  margin: 1.5rem auto 4rem; padding: 0 1rem; }
h1 { margin: 0 0 .3rem; } h2 { margin: 3rem 0 .6rem; } h3 { margin: 1.4rem 0 .4rem; font-size: 1rem; }
p { max-width: 62rem; } p.verdict { font-size: 1.15rem; margin: .4rem 0; }
  p.soft, small, figcaption { color: var(--soft); font-size: .9rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1rem 0; } a { color: var(--front); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tiles div { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .35rem .65rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-weight: 400; }
thead th { vertical-align: bottom; color: var(--soft); } thead th.group { text-align: center; color: var(--ink); }
tr > :first-child { text-align: left; position: sticky; left: 0; background: var(--paper); z-index: 1; }
thead tr + tr > :first-child { text-align: right; position: static; }
.words { text-align: left; white-space: normal; min-width: 14rem; }
td.best { font-weight: 700; } tr.winner > * { background: var(--mark); } tr.winner > th { font-weight: 700; }
figure { margin: 0; } .plots { display: grid; gap: 1.5rem 2rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font-family: system-ui, sans-serif;
  paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
svg .grid { stroke: var(--line); } svg .leader { stroke: var(--soft); stroke-width: .8; }
svg circle { fill-opacity: .5; stroke-width: 1.5; }
svg circle.winner { fill: var(--accent); stroke: var(--accent); stroke-width: 3; }
svg circle.front { fill: var(--front); stroke: var(--front); }
svg circle.other { fill: var(--other); stroke: var(--other); }
svg polyline.front { fill: none; stroke: var(--front); stroke-width: 1.5; stroke-dasharray: 5 4; }
.narrow { display: none; }
@media (max-width: 40rem) { .wide { display: none; } .narrow { display: block; } }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin: 0 .2em 0 .7em; }
.pictures { width: max-content; } .pictures b { position: sticky; left: 0; font-size: .9rem; }
.pictures div { display: flex; gap: .4rem; margin: .1rem 0 .7rem; }
.pictures img { height: 9rem; display: block; border-radius: 4px; }
@media (max-width: 40rem) { .pictures img { height: 7rem; }
  th, td { padding: .3rem .4rem; } table { font-size: .85rem; }
  .words { min-width: 10rem; } }
"""
