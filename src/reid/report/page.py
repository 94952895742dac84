"""The page's layout: one HTML file that holds everything it shows, and runs and loads nothing.

What a click chooses (outcome, dataset, the pair whose keypoints are drawn) is a radio button, and the style sheet shows
what belongs to it. A photograph's pixels stand once, in the style sheet, however often it is seen.
"""

from collections.abc import Mapping
from typing import Any

import jinja2

__all__ = ["render"]

LIGHT = "--page: #fbfbfa; --card: #fff; --ink: #1d2125; --muted: #5d6770; --line: #dfe2e5; --field: #eceef0; \
--score: #2f6f8f; --known: #2a9d6f; --misled: #c2a24a; --new: #c8643c; --other0: #8a8f98; --other1: #b7a6d6; \
--other2: #c9b79c; --wrong: #b3261e; --named: #a04f00; --missed: #5b3f9e; --right: #17703f; --open: #2f6f8f; \
--k0: #3b7dd8; --k1: #d1495b; --k2: #3a9e5c; --k3: #b98900; --k4: #8e5bc0; --k5: #12919a;"


DARK = "--page: #14171a; --card: #1c2024; --ink: #e7e9eb; --muted: #9aa4ad; --line: #343a40; --field: #2a2f34; \
--score: #6db6d8; --known: #4fc796; --misled: #b99b4b; --new: #e88a62; --other0: #838b94; --other1: #9686c4; \
--other2: #a3927a; --wrong: #ff8f87; --named: #ffb066; --missed: #bda7ff; --right: #6fd39b; --open: #6db6d8; \
--k0: #78aef5; --k1: #f28291; --k2: #6fcb8d; --k3: #e0b43c; --k4: #bd93e8; --k5: #4fc4cc;"
"""The page's colours: of the paper, of what is measured (the same in charts and tables), of outcomes, and of
individuals on a map."""


def render(content: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        content: by the names that `PAGE` uses; whatever is text is escaped, but for charts.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": _fixed, "percent": _percent, "between": _between}
    return environment.from_string(PAGE).render(content, light=LIGHT, dark=DARK)


def _fixed(value: float | None) -> str:
    """Three digits; a dash for what is not known (NaN is not equal to itself)."""
    return "\u2014" if value is None or value != value else f"{value:.3f}"


def _between(interval: tuple[float, float] | None) -> str:
    known = interval is not None and interval[0] == interval[0]
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if known and interval is not None else ""


def _percent(value: float | None) -> str:
    if value is None or value != value:
        return "\u2014"
    return "<1%" if 0 < value < 0.005 else f"{value:.0%}"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{# whatever an identity may say, the page runs nothing and loads nothing #}
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>reid: {{ title }}</title>
<style>
:root { {{ light }} }
@media (prefers-color-scheme: dark) { :root { {{ dark }} } }
* { box-sizing: border-box; }
html { scroll-padding-top: clamp(3.2rem, calc(8rem - 8vw), 6rem); }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: .6rem clamp(.8rem, 3vw, 2rem) 4rem; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 1rem 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; overflow-wrap: anywhere; }
h4 { font-size: .88rem; font-weight: 600; color: var(--muted); margin: .2rem 0; }
p { margin: .4rem 0; max-width: 46rem; } .muted, figcaption { color: var(--muted); font-size: .88rem; }
a { color: var(--score); }
nav { position: sticky; top: 0; z-index: 3; background: var(--page); padding: .45rem 0; display: flex;
  gap: .2rem 1.1rem; flex-wrap: wrap; font-size: .92rem; border-bottom: 1px solid var(--line); }
.big { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.big div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.big b { display: block; white-space: nowrap; font-size: 1.2rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.big span { display: block; font-size: .85rem; line-height: 1.35; color: var(--muted); }
.big .first { background: var(--score); color: var(--page); border-color: var(--score); }
.big .first span { color: inherit; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .5rem 2rem;
  align-items: start; }
figure { margin: 0; min-width: 0; } svg { display: block; width: 100%; height: auto; max-width: 34rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; } svg text { font-family: system-ui, sans-serif !important; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; padding: 0; margin: .4rem 0; }
.key.tall { flex-direction: column; padding-top: 1rem; } .key li { list-style: none; overflow-wrap: anywhere; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.key i.line { height: 0; width: 1.3em; border-top: 2px dashed var(--ink); vertical-align: middle; border-radius: 0; }
.key i.whisker { height: 0; width: 1.3em; border-top: 2px solid var(--ink); vertical-align: middle; border-radius: 0; }
.key i.dot { border-radius: 50%; } .key i.ring { border-radius: 50%; border: 2px solid var(--ink); }
{# a shadow where a table goes on, which the page's own colour covers at its ends #}
.scroll { overflow-x: auto; margin: .6rem 0; --shade: color-mix(in srgb, var(--ink) 28%, transparent);
  background: linear-gradient(90deg, var(--page) 40%, transparent) 0 / 3rem 100% no-repeat local,
  linear-gradient(270deg, var(--page) 40%, transparent) 100% / 3rem 100% no-repeat local,
  linear-gradient(90deg, var(--shade), transparent) 0 / .8rem 100% no-repeat scroll,
  linear-gradient(270deg, var(--shade), transparent) 100% / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: right; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; color: var(--muted); vertical-align: bottom; white-space: normal; min-width: 3.5rem; }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
td small { color: var(--muted); } tr.sub td:first-child { padding-left: 1.1rem; color: var(--muted); }
.wide td:last-child { white-space: normal; overflow-wrap: anywhere; }
.grid td:not(:first-child) { background: color-mix(in srgb, var(--score) calc(var(--share) * 55%), transparent);
  padding: .3rem .7rem; } .grid th:not(:first-child) { padding: .3rem .7rem; }
.hash td { font-family: ui-monospace, monospace; font-size: .8rem; white-space: normal; overflow-wrap: anywhere; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.note { border-left: 3px solid var(--named); padding-left: .7rem; overflow-wrap: anywhere; }
.pick { position: absolute; opacity: 0; pointer-events: none; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: .6rem 0; }
.chips label { border: 1px solid var(--line); background: var(--card); border-radius: 99px; padding: .2rem .8rem;
  cursor: pointer; font-size: .88rem; overflow-wrap: anywhere; } .chips small { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); gap: .9rem;
  margin-top: 1rem; align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--tone); border-radius: 8px;
  padding: .6rem .7rem; font-size: .85rem; min-width: 0; overflow-wrap: anywhere; content-visibility: auto;
  contain-intrinsic-size: auto 16rem; position: relative; }
.card header { display: flex; justify-content: space-between; gap: .6rem; } .card header b { color: var(--tone); }
.card header span { color: var(--muted); text-align: right; }
.photos { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: .4rem; margin: .45rem 0; }
.photo, .gone { display: block; width: 100%; aspect-ratio: 1; border-radius: 4px; background-color: var(--field); }
.photo { background-size: contain; background-position: center; background-repeat: no-repeat;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.gone { padding: .4rem; color: var(--muted); overflow: hidden; font-size: .76rem; line-height: 1.3; }
.mirrored { transform: scaleX(-1); }
.near { display: block; cursor: pointer; border-radius: 5px; outline-offset: 1px; }
.near:hover { outline: 2px solid var(--line); } .near:has(:checked) { outline: 2px solid var(--ink); }
.near:has(:focus-visible) { outline: 2px solid var(--score); }
.photos figcaption { font-size: .74rem; line-height: 1.3; margin-top: .25rem; }
.photos figcaption b { color: var(--ink); font-weight: 600; } .photos .is-right b { color: var(--right); }
.pair, .hide { display: none; }
{% for number in range(6) %}
.card:has(.near.n{{ number }} :checked) .pair.n{{ number }}{{ "," if not loop.last else " { display: block; }" }}
{% endfor %}
.card:has(.near :checked) .hide { display: inline; cursor: pointer; color: var(--score); text-decoration: underline; }
.pair { margin: .5rem 0; } .beside { position: relative; display: grid; grid-template-columns: 1fr 1fr; gap: 2%; }
.beside svg { position: absolute; inset: 0; width: 100%; height: 100%; max-width: none; }
.beside path { fill: none; vector-effect: non-scaling-stroke; stroke: var(--missed); stroke-width: 1px; opacity: .75;
  stroke-dasharray: 3 3; }
.beside path.agree { stroke: #37e08d; stroke-width: 1.6px; opacity: .95; stroke-dasharray: none; }
.gauge { position: relative; height: 6px; border-radius: 3px; margin: .7rem 0 .6rem;
  background: linear-gradient(90deg, var(--known) 50%, var(--new) 50%); opacity: .9; }
.gauge::before, .gauge::after { content: ""; position: absolute; top: -4px; height: 14px; }
.gauge::before { left: calc(50% - 1px); width: 2px; background: var(--ink); }
.gauge::after { left: calc(var(--at) - 7px); width: 14px; border-radius: 50%; background: var(--card);
  border: 3px solid var(--ink); }
.v-wrong { --tone: var(--wrong); } .v-named { --tone: var(--named); } .v-missed { --tone: var(--missed); }
.v-right { --tone: var(--right); } .v-open-named, .v-open-new { --tone: var(--open); }
.big b[class] { color: var(--tone); }
.nothing { display: none; }
.map { position: relative; aspect-ratio: 4 / 3; max-width: 34rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); margin: .4rem 0; padding: 0; }
.dots { position: absolute; inset: 12px; }
.dots i { position: absolute; width: 9px; height: 9px; margin: -4.5px; border-radius: 50%; opacity: .8;
  background-color: var(--k, var(--other0)); background-size: 0 0; }
.dots .q { background-color: transparent; border: 2px solid var(--ink); width: 11px; height: 11px; margin: -5.5px; }
.dots i:hover { z-index: 2; opacity: 1; outline: 2px solid var(--ink); }
.dots i:hover::after { content: attr(data-t); position: absolute; top: 1rem; left: 0; width: max-content;
  max-width: min(15rem, 60vw); background: var(--ink); color: var(--page); font: .78rem/1.35 system-ui, sans-serif;
  padding: .25rem .5rem; border-radius: 5px; overflow-wrap: anywhere; pointer-events: none; white-space: pre-line; }
.dots .r:hover::after { left: auto; right: 0; }
.dots .p:hover::before { content: ""; position: absolute; bottom: 1rem; left: 0; width: 120px; height: 120px;
  background: inherit; background-color: var(--field); background-size: contain; background-repeat: no-repeat;
  background-position: center; border: 1px solid var(--line); border-radius: 5px; pointer-events: none; }
.dots .p.r:hover::before { left: auto; right: 0; }
{% for number in range(6) %}
.k{{ number }} { --k: var(--k{{ number }}); }
{% endfor %}
{% for one in filters.outcome %}
#v-{{ one.key }}:checked ~ .cards .card:not(.v-{{ one.key }}) { display: none; }
{% endfor %}
{% for one in filters.dataset %}
#d-{{ loop.index0 }}:checked ~ .cards .card:not(.d-{{ loop.index0 }}) { display: none; }
{% endfor %}
{% for key, place in filters.empty %}
#v-{{ key }}:checked ~ #d-{{ place }}:checked ~ .nothing { display: block; }
{% endfor %}
{% for id in filters.ids %}
#{{ id }}:checked ~ .chips label[for={{ id }}] { border-color: var(--ink); box-shadow: inset 0 0 0 1px var(--ink); }
#{{ id }}:focus-visible ~ .chips label[for={{ id }}] { outline: 2px solid var(--score); outline-offset: 2px; }
{% endfor %}
@media print { .chips, nav { display: none; } .card { break-inside: avoid; content-visibility: visible; } }
{% for number, uri in thumbnails %}
.t{{ number }} { background-image: url({{ uri | safe }}); }
{% endfor %}
</style>
</head>
<body>
<main>
<h1>Report: {{ title }}</h1>
<nav><a href="#scores">Scores</a><a href="#thresholds">Thresholds</a><a href="#matches">Matches</a>
<a href="#data">Data</a><a href="#networks">Networks</a><a href="#made">How it was made</a></nav>

<section id="scores">
<div class="big">
{% if headline.score is not none %}
<div class="first"><b>{{ headline.score | fixed }}</b><span>score, the mean over the datasets
{{- headline.interval | between }}</span></div>
{% endif %}
<div{% if headline.score is none %} class="first"{% endif %}><b>{{ headline.expected | fixed }}
{%- if headline.spread is not none %} &plusmn; {{ headline.spread | fixed }}{% endif %}</b>
<span>expected score, from the database alone</span></div>
{% for key, words, count, share in headline.outcomes %}
<div><b class="v-{{ key }}">{{ share | percent }}</b><span>{{ words }} ({{ count }} of {{ queries }})</span></div>
{% endfor %}
</div>
{% if headline.score is none %}
<p class="note">No solution was given, so nothing on this page is a measured score. What is shown instead was
<b>expected</b> when the thresholds were fitted: database photographs that nothing had been learned from were asked for
as if they were queries.</p>
{% endif %}
{% if headline.measured < headline.datasets %}
<p class="note">The expected score is the mean over {{ headline.measured }} of {{ headline.datasets }} datasets; the
others had too few individuals to measure one.</p>
{% endif %}
{% if headline.astray %}
<p class="note">{{ headline.astray }} of {{ queries }} queries were sent to another encoder than that of the dataset in
their row.</p>
{% endif %}
<div class="two">
<figure><h3>{{ "Expected score" if headline.score is none else "Score" }}, BAKS and BAUS</h3>
{{ kinds_chart | safe }}
<ul class="key">
<li><i style="background:var(--score)"></i>score = &radic;(BAKS &times; BAUS)</li>
<li><i style="background:var(--known)"></i>BAKS: known individuals named rightly</li>
<li><i style="background:var(--new)"></i>BAUS: new individuals called new</li>
<li><i class="whisker"></i>{% if headline.score is none %}nine of ten splits of the database
{% else %}nine of ten samples of as many individuals{% endif %}</li></ul></figure>
{% if beside_chart.svg %}
<figure><h3>The score beside {{ "other recipes" if others else "what was expected" }}</h3>{{ beside_chart.svg | safe }}
<ul class="key">
{% for name in beside_chart.names %}
<li><i style="background:var(--{{ "score" if loop.first else "other" ~ (loop.index0 - 1) % 3 }})"></i>{{ name }}</li>
{% endfor %}
</ul></figure>
{% endif %}
</div>
<div class="scroll"><table>
<tr><th>dataset</th>
{% if headline.score is not none %}<th>queries</th>{% endif %}
{% if headline.score is not none or others %}<th>score</th><th>BAKS</th><th>BAUS</th>{% endif %}
{% if others %}<th>score ahead by</th>{% endif %}
<th>expected score</th><th>expected BAKS</th><th>expected BAUS</th></tr>
{% for row in score_rows %}
<tr><td>{{ row.dataset }}</td>
{% if headline.score is not none %}
{% if row.live %}<td>{{ row.live.images }}</td>
<td><b>{{ row.live.score | fixed }}</b><small>{{ row.intervals.score | between }}</small></td>
<td>{{ row.live.baks | fixed }}<small>{{ row.intervals.baks | between }}</small></td>
<td>{{ row.live.baus | fixed }}<small>{{ row.intervals.baus | between }}</small></td>
{% else %}<td>0</td><td>&mdash;</td><td>&mdash;</td><td>&mdash;</td>{% endif %}
{% elif others %}<td></td><td></td><td></td>{% endif %}
{% if others %}<td></td>{% endif %}
{% if row.expected %}
<td>{{ row.expected.score | fixed }}<small>{{ row.expected.interval | between }}</small></td>
<td>{{ row.expected.baks | fixed }}</td><td>{{ row.expected.baus | fixed }}</td>
{% else %}<td>&mdash;</td><td>&mdash;</td><td>&mdash;</td>{% endif %}
</tr>
{% for other in row.others %}
<tr class="sub"><td>{{ other.name }}</td>{% if headline.score is not none %}<td></td>{% endif %}
<td>{{ other.score.score | fixed }}</td><td>{{ other.score.baks | fixed }}</td><td>{{ other.score.baus | fixed }}</td>
<td>{{ other.ahead | fixed }}<small>{{ other.interval | between }}</small></td>
<td></td><td></td><td></td></tr>
{% endfor %}
{% endfor %}
</table></div>
{% if headline.score is not none %}
<p class="muted">In brackets: nine of ten of 1,000 samples of as many individuals, drawn with replacement from those
that were asked for{% if others %}; for &ldquo;ahead by&rdquo; both recipes meet the same ones{% endif %}. For expected
scores: nine of ten splits of the database.</p>
{% endif %}
</section>

<section id="thresholds">
<h2>Thresholds</h2>
<p>A query is named when its nearest individual is nearer than the threshold, and called new otherwise. Any threshold on
the plateau is as good, to within half a point, on the database's own photographs.</p>
<div class="scroll"><table>
<tr><th>dataset</th><th>scorer</th><th>threshold</th><th>plateau</th><th>expected score</th>
{% if solved %}<th>score</th><th>best in hindsight</th>{% endif %}
<th>called new, expected</th><th>called new, here</th>{% if solved %}<th>new, in truth</th>{% endif %}</tr>
{% for row in threshold_rows %}
<tr><td>{{ row.dataset }}</td><td>{{ row.scorer }}</td><td><b>{{ row.one.value | fixed }}</b></td>
<td>{{ row.one.plateau[0] | fixed }} to {{ row.one.plateau[1] | fixed }}</td>
<td>{{ row.one.score | fixed }}<small>{{ row.one.interval | between }}</small></td>
{% if solved %}<td>{{ row.live | fixed }}</td>
<td>{% if row.best %}{{ row.best[1] | fixed }} at {{ row.best[0] | fixed }}{% else %}&mdash;{% endif %}</td>{% endif %}
<td>{{ row.one.share_new | percent }}</td><td>{{ row.live_new | percent }}</td>
{% if solved %}<td>{{ row.truly_new | percent }}</td>{% endif %}</tr>
{% endfor %}
</table></div>
{% for row in threshold_rows %}
{% for note in row.one.note.splitlines() %}
<p class="note">{{ row.dataset }}: {{ note }}</p>
{% endfor %}
{% if row.drifted %}
<p class="note">{{ row.dataset }}: the queries match otherwise than the database's photographs among themselves,
on which the threshold was fitted (by {{ "%.2f" | format(row.drift) }}; 0 is alike, 1 nothing in common): its expected
score may not hold. Some of them whose animal is known, added to the database, help: enroll, then calibrate.</p>
{% endif %}
{% endfor %}
{% if scorer_scores %}
<details><summary>Scorers that competed</summary><div class="scroll"><table class="text">
{% for name, chosen, scores in scorer_scores %}
<tr><td>{{ name }}</td>
{% for kind, score in scores.items() %}
<td>{% if kind == chosen %}<b>{{ kind }} {{ score | fixed }}</b>{% else %}{{ kind }} {{ score | fixed }}{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</table></div><p class="muted">The expected score of each at its own best threshold, cross-fitted; the simplest that is
as good as the best, to within what luck may do among so many individuals, was taken.</p></details>
{% endif %}
{% if solved %}
<p class="muted">Best in hindsight: what the best threshold would have scored on the queries that were sought in this
gallery. It says how much the threshold costs; a threshold chosen by it would be tuned on the answers.</p>
{% endif %}
<ul class="key">
<li><i style="background:var(--known)"></i>known{% if solved %}, nearest is the right individual{% endif %}; BAKS</li>
{% if solved %}
<li><i style="background:var(--misled)"></i>known, nearest is another</li>
{% endif %}
<li><i style="background:var(--new)"></i>new (downwards); BAUS</li>
<li><i style="background:var(--score)"></i>score{% if not solved %}; queries of which nothing is known{% endif %}</li>
<li>&#9670; best possible</li>
<li><i class="whisker"></i>share called new</li>
<li><i class="line"></i>threshold: left of it named, right of it called new</li>
<li><i style="background:var(--muted);opacity:.35"></i>plateau</li></ul>
{% for name, charts in threshold_charts %}
<h3>{{ name }}</h3>
<div class="two">
{% for words, chart in charts %}
<figure><h4>{{ words }}</h4>{{ chart | safe }}</figure>
{% endfor %}
</div>
{% endfor %}
</section>

<section id="matches">
<h2>Matches</h2>
<p>{% if cards | length < queries %}<b>{{ cards | length }} of {{ queries }} queries are shown</b>, to keep the page
below 10 MB: the worst of every outcome and dataset in turn. {% endif %}
The worst come first{% if solved %}: wrong names far below the threshold, known animals far above it; then right
answers, the least sure first{% else %}: those nearest the threshold, which are the least sure{% endif %}.
The bar shows the distance, the threshold in its middle.{% if compared %} <b>Choose a neighbour</b> to see the keypoints
that it shares with the query{% if not decided %}; the answers were found without them{% endif %}. A right
one that was not compared has no photograph in the query's shortlist of look-alikes, so that it has no rank and no
distance.{% endif %}</p>
<input class="pick" type="radio" name="outcome" id="v-all" autocomplete="off" checked>
{% for one in filters.outcome %}
<input class="pick" type="radio" name="outcome" id="v-{{ one.key }}" autocomplete="off">
{% endfor %}
<input class="pick" type="radio" name="dataset" id="d-all" autocomplete="off" checked>
{% for one in filters.dataset %}
<input class="pick" type="radio" name="dataset" id="d-{{ loop.index0 }}" autocomplete="off">
{% endfor %}
{% macro chip(id, one) %}
<label for="{{ id }}">{{ one.words }} <small>{{ one.shown }}{% if one.shown < one.found %} of {{ one.found }}{% endif %}
</small></label>
{% endmacro %}
{% macro photo(picture, role) %}
{% if picture.problem %}<div class="gone">{{ picture.problem }}</div>
{% else %}<div class="photo t{{ picture.number }}{{ " mirrored" if picture.mirrored }}" role="img"
 aria-label="{{ role }}: {{ picture.name }}"></div>{% endif %}
{% endmacro %}
<div class="chips"><label for="v-all">every outcome</label>
{% for one in filters.outcome %}{{ chip("v-" ~ one.key, one) }}{% endfor %}</div>
<div class="chips"><label for="d-all">every dataset</label>
{% for one in filters.dataset %}{{ chip("d-" ~ loop.index0, one) }}{% endfor %}</div>
<p class="nothing muted">No match of this outcome in this dataset.</p>
<div class="cards">
{% for card in cards %}
{% set row = card.row %}
{% set group = loop.index0 %}
<article class="card v-{{ row.outcome }} d-{{ filters.numbers[row.dataset] }}">
<header><b>{{ marks[row.outcome] }} {{ words[row.outcome] }}</b><span>{{ row.dataset }}</span></header>
<div class="photos">
<figure>{{ photo(card.query, "query") }}
<figcaption>query<br><b>{{ card.query.name }}</b><br>photo {{ card.query.image_id }}</figcaption></figure>
{% for one in card.neighbours %}
<figure{{ ' class="is-right"' | safe if one.is_right }}>{% if one.pair %}<label class="near n{{ loop.index0 }}"><input
 class="pick" type="radio" name="c{{ group }}" autocomplete="off">{{ photo(one.picture, one.role) }}</label>
{% else %}{{ photo(one.picture, one.role) }}{% endif %}
<figcaption>{{ one.role }}<br><b>{{ one.picture.name }}</b><br>photo {{ one.picture.image_id }}
{%- if one.distance is not none %}<br>at {{ one.distance | fixed }}{% endif %}</figcaption></figure>
{% endfor %}
</div>
{% for one in card.neighbours if one.pair %}
<div class="pair n{{ loop.index0 }}"><div class="beside">
{{ photo(card.query, "query") }}{{ photo(one.picture, one.role) }}
<svg viewBox="0 0 2041 1000" preserveAspectRatio="none" aria-hidden="true"><path d="{{ one.pair.others }}"/><path
 class="agree" d="{{ one.pair.agreeing }}"/></svg></div>
<p class="muted">{{ one.pair.matches }} keypoints match, {{ one.pair.inliers }} of them in one arrangement (solid)
{%- if one.pair.left_out %}; {{ one.pair.left_out }} are not drawn{% endif %}.
<label class="hide"><input class="pick" type="radio" name="c{{ group }}" autocomplete="off">hide</label></p></div>
{% endfor %}
{% if row.problem %}
<div>The query can't be read ({{ row.problem }}): it is called new.</div>
{% else %}
<div class="gauge" style="--at:{{ '%.1f' | format([row.ratio, 2] | min * 50) }}%"></div>
<div>answer <b>{{ row.answer }}</b></div>
<div class="muted">distance {{ row.distance | fixed }}, threshold {{ row.threshold | fixed }}
{%- if row.runner_up %}; next individual {{ row.runner_up }} at {{ row.runner_up_dissimilarity | fixed }}{% endif %}</div>
{% endif %}
{% if row.column and row.column != row.dataset %}
<div class="note">its row says {{ row.column }}, it was sent to {{ row.dataset }}</div>
{% endif %}
</article>
{% endfor %}
</div>
</section>

<section id="data">
<h2>Data</h2>
<div class="scroll"><table>
<tr><th>dataset</th><th>database photographs</th><th>individuals</th><th>with one only</th><th>median</th><th>most</th>
<th>with a date</th><th>not in the gallery</th><th>queries</th><th>with a date</th><th>unreadable queries</th></tr>
{% for row in data_rows %}
<tr><td>{{ row.dataset }}</td><td>{{ row.images }}</td><td>{{ row.individuals }}</td><td>{{ row.singletons }}</td>
<td>{{ "%g" | format(row.median) }}</td><td>{{ row.largest }}</td><td>{{ row.dated | percent }}</td>
<td>{{ row.not_enrolled }}</td><td>{{ row.queries }}</td><td>{{ row.queries_dated | percent }}</td>
<td>{{ row.unreadable }}</td></tr>
{% endfor %}
</table></div>
<p class="muted">Not in the gallery: photographs that could not be read, or that came after enrolment.</p>
{% if unreadable %}
<details{{ " open" if unreadable | length < 6 }}>
<summary>What was unreadable or left out ({{ unreadable_count }})</summary>
<div class="scroll"><table class="text">
<tr><th>photo</th><th>dataset</th><th>split</th><th>file</th><th>why</th></tr>
{% for one in unreadable %}
<tr><td>{{ one.image_id }}</td><td>{{ one.dataset }}</td><td>{{ one.split }}</td><td>{{ one.path }}</td>
<td>{{ one.problem }}</td></tr>
{% endfor %}
</table></div>
{% if unreadable | length < unreadable_count %}
<p class="muted">The first {{ unreadable | length }} of them.</p>
{% endif %}
</details>
{% endif %}
<div class="two">
{% for words, chart in data_charts %}
<figure><h3>{{ words }}</h3>{{ chart | safe }}</figure>
{% endfor %}
</div>
{% if sides.rows %}
<h3>Orientations</h3>
<div class="scroll"><table>
<tr><th>dataset</th>{% for name in sides.names %}<th>{{ name or "not said" }}</th>{% endfor %}</tr>
{% for name, cells in sides.rows %}
<tr><td>{{ name }}</td>{% for database, queries in cells %}<td>{{ database }} <small>+ {{ queries }}</small></td>
{% endfor %}</tr>
{% endfor %}
</table></div>
<p class="muted">Database photographs, and with a plus the queries.
{% if sides.left_out %}The {{ sides.left_out }} rarest orientations are left out.{% endif %}</p>
{% endif %}
</section>

<section id="networks">
<h2>Networks</h2>
{% if confusion %}
<h3>Species classifier</h3>
<p>Rows: what {{ "the solution" if confusion.solved else "the column dataset" }} says of {{ confusion.count }} queries;
columns: what the classifier says. They agree on {{ confusion.agreed }}.</p>
<div class="scroll"><table class="grid">
<tr><th></th>{% for name in confusion.names %}<th>{{ name }}</th>{% endfor %}</tr>
{% for name, cells in confusion.rows %}
<tr><td>{{ name }}</td>{% for count, share in cells %}<td style="--share:{{ '%.2f' | format(share) }}">{{ count }}</td>
{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
{% if maps %}
<h3>Maps of the embeddings</h3>
<p>Every dot is a photograph; photographs whose vectors are alike lie near each other. Drawn are the two directions in
which a gallery's vectors differ most (its first two principal components): they hold only a part of what the encoder
sees, so two dots may be near here and far apart for it. Hover over a dot, or tap it.</p>
<div class="two">
{% for map in maps %}
<figure><h4>{{ map.dataset }}: {{ map.kept | percent }} of the variance
{%- if map.known < map.photographs %}, {{ map.known }} of {{ map.photographs }} photographs{% endif %}</h4>
<div class="map"><div class="dots">
{% for dot in map.dots %}
<i class="{{ dot.kind }}" style="left:{{ dot.x }}%;top:{{ dot.y }}%" data-t="{{ dot.words }}"></i>
{% endfor %}
</div></div>
<ul class="key">
{% for name in map.names %}<li><i class="dot" style="background:var(--k{{ loop.index0 }})"></i>{{ name }}</li>
{% endfor %}
<li><i class="dot" style="background:var(--other0)"></i>others</li>
{% if map.asked %}<li><i class="ring"></i>the queries shown above</li>{% endif %}
</ul></figure>
{% endfor %}
</div>
{% elif not encoders %}
<p class="muted">This recipe has no encoder, so there are no embeddings to draw: it matches keypoints alone.</p>
{% endif %}
{% if histories %}
<h3>Training</h3>
<ul class="key"><li><i style="background:var(--ink)"></i>loss</li>
<li><i style="background:var(--known)"></i>accuracy on individuals that were held out</li>
<li><i style="background:var(--score)"></i>the competition's score on them</li></ul>
<div class="two">
{% for name, words, chart in histories %}
<figure><h4>{{ name }}: {{ words }}</h4>{{ chart | safe }}</figure>
{% endfor %}
</div>
{% elif encoders %}
<p class="muted">No history of the training lies beside these weights (it stays where they were trained, and is not
uploaded with them), or nothing was trained.</p>
{% endif %}
</section>

<section id="made">
<h2>How it was made</h2>
<p>Recipe <b>{{ made.name }}</b>, route <b>{{ made.route }}</b>.
{% for name, version in made.versions.items() %}{{ name }} {{ version }}{{ ", " if not loop.last else "." }}
{% endfor %}</p>
<p>The networks were trained, or the galleries enrolled,
{% if made.same_data %}from this folder's database as it is now.{% else %}<b>from other data than this folder's
database</b>, or from a part of it.{% endif %}</p>
{% if made.seconds %}
<p>Time:
{% for what, seconds in made.seconds.items() %}
{{ what }} {{ "%.1f" | format(seconds) }} s{{ ", " if not loop.last else "." }}
{% endfor %}</p>
{% endif %}
<details><summary>Recipe</summary><div class="scroll"><table class="text wide">
{% for name, value, changed in made.recipe %}
<tr><td>{{ name }}</td><td>{{ value }}{% if changed %} <b>(not the shipped recipe's)</b>{% endif %}</td></tr>
{% endfor %}
</table></div></details>
<details><summary>Hashes (SHA-256)</summary><table class="text hash">
<tr><td>training data</td><td>{{ made.data }}</td></tr>
{% for name, hash in made.files.items() %}
<tr><td>{{ name }}</td><td>{{ hash }}</td></tr>
{% endfor %}
</table></details>
</section>
</main>
</body>
</html>
"""
