"""How pages look, light and dark: one sheet for tables, cards, bars and drawings."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9d9e0; --paper: #fcfcfd; --card: #ffffff;
  --grid: #ececf1; --kept: #2b7a5f; --gone: #dfe3e6; --bad: #b3261e;
  --s0: #6b7280; --s1: #0072b2; --s2: #c2410c; --s3: #00806a; --s4: #a8518f; --s5: #a16207; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a0a4ab; --line: #363a3f; --paper: #111113;
  --card: #18191b; --grid: #26282c; --kept: #4cc38a; --gone: #363a3f; --bad: #ff8a80;
  --s0: #9ba1a9; --s1: #56b4e9; --s2: #ff9b5e; --s3: #3dd6ae; --s4: #e39acb; --s5: #f0c23b; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2, summary { font-size: 1.05rem; font-weight: 600; margin: 2.5rem 0 .5rem; overflow-wrap: anywhere; }
summary { cursor: pointer; }
summary span { color: var(--soft); font-weight: 400; font-size: .85rem; }
p, figcaption { color: var(--soft); margin: .25rem 0; overflow-wrap: anywhere; }
figcaption, section p, details p { font-size: .85rem; }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0 0; }
.card { border: 1px solid var(--line); background: var(--card); border-radius: .5rem; padding: .75rem 1rem;
  flex: 1 1 14rem; min-width: 0; overflow-wrap: anywhere; }
.card b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.card.good b { color: var(--kept); }
.card.bad b { color: var(--bad); }
.card span { color: var(--soft); font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 2rem; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .85rem; vertical-align: bottom; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; overflow-wrap: anywhere; }
td.text { min-width: 9rem; }
.number + .text { padding-left: 1rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { display: block; width: 100%; min-width: 6rem; max-width: 20rem; height: 12px; margin-top: .35rem; }
.kept { fill: var(--kept); }
.gone { fill: var(--gone); }
.plot { display: block; width: 100%; min-width: 28rem; height: auto; }
.wide .plot { min-width: 46rem; }
.plot text { font: 12px system-ui, sans-serif; fill: var(--soft); font-variant-numeric: tabular-nums;
  paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.plot .axis { fill: var(--soft); }
.plot .strong { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--grid); }
.base { stroke: var(--line); }
.reference { stroke: var(--soft); stroke-dasharray: 4 4; }
.median { stroke: var(--ink); stroke-width: 1.5; }
.whisker { stroke: var(--soft); stroke-width: 1.5; }
.frontier { fill: none; stroke: var(--kept); stroke-width: 1.5; stroke-dasharray: 6 3; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); }
.s5 { --c: var(--s5); } .good { --c: var(--kept); } .again { --c: var(--s0); }
.fill { fill: var(--c); }
.area { fill: var(--c); fill-opacity: .22; }
.band { fill: var(--c); fill-opacity: .13; }
.stroke { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.again.stroke { stroke-dasharray: 3 3; }
.again.fill { fill-opacity: .45; }
@media print { body { margin: 0; } details { display: block; } }
"""
