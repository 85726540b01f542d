"""A search's result as people read it in a terminal: the answer first, what it stands on after.

Everything fits 80 columns but names that are longer themselves. Scores are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from fusion.ensemble.channels import thresholds_of
from fusion.ensemble.heads.explain import strongest
from fusion.metrics import CONVENTIONS, Scores
from fusion.search.held import (
    FOUND,
    GROUP,
    MULTIPLIERS,
    SINGLE,
    UNIFORM,
    WEIGHTS,
    WEIGHTS_ALONE,
    head_name,
)
from fusion.search.ladder import formula
from fusion.search.report import MULTIPLIED, Report
from fusion.search.result import SearchResult
from fusion.terminal import WIDTH, Style, wrapped
from fusion.text import listed, percent, table, visible

MIXED = 4  # sentences about what a head mixes
IDLE = 0.0005  # of mIoU: what a model must add to be worth its store


def result_text(report: Report, style: Style | None = None) -> str:
    """What the command prints of a search.

    Args:
        report: its numbers.
        style: how words are marked; default not at all.

    Returns:
        Lines: a table of what could be used and what each is worth, the verdict, then details.
    """
    style = style or Style()
    parts = [_answer(report, style), _verdict(report, style)]
    parts.append(f"{style.strong('How that was found')}\n\n{_ladder(report)}")
    parts.append(_lines(_search_lines(report)))
    parts.append(f"{style.strong('How far it can be trusted')}\n\n{_lines(_trust_lines(report))}")
    if report.found.postprocess is not None:
        head = style.strong("What may be done after fusion")
        parts.append(f"{head}\n\n{_lines(report.found.postprocess.lines(WIDTH))}")
    if report.contributions:
        parts.append(_contributions(report))
    return "\n\n".join(part for part in parts if part)


def _lines(sentences: Iterable[str]) -> str:
    return "\n".join(text if "\n" in text else wrapped(text) for text in sentences)


def _answer(report: Report, style: Style) -> str:
    """What could be used, the simplest first: its score on every split, and on held-out folds."""
    found, names = report.found, [run.name for run in report.splits]
    held = {} if found.held_out is None else found.held_out.contenders
    recommended = None if found.verdict is None else found.verdict.recommended
    rows = []
    for contender, name, scores in contenders(report):
        shown = [percent(scores[n].score) if n in scores else "-" for n in names]
        mark = "use this" if contender == recommended else ""
        rows.append((name, *shown, *_held_out(held.get(contender), found), mark))
    header = (objective_title(found.convention), *names, "held out", "95 % interval", "")
    head, *lines = table(rows, header, WIDTH).split("\n")
    lines = [style.strong(line) if line.endswith("use this") else line for line in lines]
    return "\n".join([style.strong(head), *lines])


def contenders(report: Report) -> Iterator[tuple[str, str, Mapping[str, Scores]]]:
    """(contender of the folds, what it is, its scores by split)."""
    found, rungs = report.found, report.rungs
    single = next(name for name in rungs if name.startswith("best single: "))
    yield SINGLE, single, rungs[single]
    same = formula(found.weighed.groups, [1.0] * len(found.weighed.groups))
    yield UNIFORM, UNIFORM, rungs.get("uniform weights") or rungs.get(same, {})
    known = {} if found.held_out is None else found.held_out.contenders
    if found.verdict is not None and found.verdict.recommended in (GROUP, WEIGHTS):
        yield found.verdict.recommended, found.verdict.recommended, {}
    for name, rung in found.rungs.items():
        yield name, f"searched: {name}", _scores(report, rung)
    if not found.rungs:
        # what was found may be a contender under another name
        alike = [name for name in known if name != FOUND and known[name] is known[FOUND]]
        multiplied = MULTIPLIERS if found.multipliers is not None else WEIGHTS_ALONE
        what = multiplied if found.head is None else head_name(found.head.name)
        recommended = None if found.verdict is None else found.verdict.recommended
        contender = str(recommended) if recommended in alike else FOUND
        yield contender, f"searched: {what}", report.scores


def _scores(report: Report, rung: SearchResult) -> Mapping[str, Scores]:
    """Of a rung of the search's own ladder, by split."""
    if rung.head is not None:
        return report.rungs[head_name(rung.head.name)]
    if rung.multipliers is not None:
        return report.rungs[MULTIPLIED]
    return report.rungs[formula(rung.groups, rung.vector)]


def _held_out(scores: Scores | None, found: SearchResult) -> tuple[str, str]:
    """A score on held-out folds, and its interval over units."""
    if scores is None:
        return "-", "-"
    low, high = scores.interval(units=found.units)
    ends = "-" if math.isnan(low) else f"{percent(low)} to {percent(high)}"
    return percent(scores.score), ends


def _verdict(report: Report, style: Style) -> str:
    """The verdict in a sentence: green where the gain is real, yellow where nobody knows."""
    verdict = report.found.verdict
    if verdict is None:
        return ""
    said = wrapped(f"verdict: {verdict.sentence}")
    real = verdict.gain.distinguishable and verdict.gain.value > 0
    return style.good(said) if real else style.doubtful(said)


def _ladder(report: Report) -> str:
    """Group after group, then references, on every split."""
    names = [run.name for run in report.splits]
    miou = {name: {n: percent(s.score) for n, s in r.items()} for name, r in report.rungs.items()}
    rows = [(name, *(shown.get(n, "-") for n in names)) for name, shown in miou.items()]
    stride = report.splits[0].stride
    pixels = "" if stride == 1 else f", every {stride}th row and column"
    return table(rows, (f"{objective_title(report.found.convention)}{pixels}", *names), WIDTH)


def _search_lines(report: Report) -> Iterator[str]:
    """What was found, and how."""
    found, condensed = report.found, report.splits[0].condensed
    yield f"{len(condensed.videos)} videos, {condensed.scored} labelled pixels, {condensed.about}"
    if "auto" in found.notes:
        yield f"auto: {found.notes['auto']}"
    yield _shown_choice(report)
    yield from learned_lines(found)
    yield from _shown_multipliers(report)
    trials = "" if found.head is not None else f" after {len(found.history)} trials"
    what = objective_title(found.convention)
    yield f"{report.splits[0].name} {what} {percent(found.miou)}{trials}"
    if failed := found.notes.get("failed_trials"):
        why = f" (the last: {found.notes['failure']})" if "failure" in found.notes else ""
        yield f"{failed} trials failed and were left out{why}"
    if (known := found.certificate) is not None:  # about weightings that were not tried
        stage = "certified" if known["complete"] else "so far; run again or --certify inf goes on"
        gap = "unknown" if known["gap"] is None else f"{100 * known['gap']:.4f}"
        upper = f"{100 * known['upper_bound']:.4f}"
        bound = f"no weighting of these groups is above {upper}, a gap of {gap}"
        taken = (
            f", {known['taken']} of them as an earlier run left them" if known.get("taken") else ""
        )
        yield f"{bound} ({stage}, {known['boxes']} boxes{taken})"


def _trust_lines(report: Report) -> Iterator[str]:
    """What is known of all these numbers; the verdict stands above."""
    yield from (line for line in report.verdict if not line.startswith("verdict: "))
    for split, known in report.calibration.items():
        yield f"{split} calibration: {known.text()}"


def _contributions(report: Report) -> str:
    """What each model adds, the most first, and which add nothing."""
    found = report.found
    ranked = sorted(report.contributions.items(), key=lambda item: -item[1])
    lost = [(name, f"{100 * value:+.3f}") for name, value in ranked]
    where = "mIoU lost" if found.head is None else f"held-out {found.convention} lost"
    said = table(lost, (f"{where} without this model", "%"), WIDTH)
    idle = [name for name, value in ranked if value < IDLE]
    if not idle:
        return said
    what = f"{len(idle)} of {len(ranked)} models add less than {100 * IDLE:g} points each"
    do = "" if found.head is None else " (--max-models N trains without)"
    return f"{said}\n" + wrapped(f"{what} and can be dropped{do}: {listed(idle, len(idle))}")


def _shown_multipliers(report: Report) -> Iterator[str]:
    """The multipliers found, of independent channels the thresholds that they are."""
    channels, known = report.splits[0].ensemble.channels, report.found.multipliers
    what = "multipliers of classes" if channels is None else "thresholds"
    if known is not None:
        named = known if channels is None else thresholds_of(known, channels)
        shown = (f"{visible(name)} {number:.3g}" for name, number in named.items())
        yield f"{what}: {', '.join(shown)}"
    elif "multipliers" in report.found.notes:
        usual = "none" if channels is None else "none but 0.5"
        yield f"{what}: {usual}, held-out videos do not gain from them"


def _shown_choice(report: Report) -> str:
    """What was found, in a sentence."""
    found = report.found
    if (head := found.head) is not None:
        sizes = f"{len(head.units)} units, {head.parameters} parameters"
        return f"best by {found.method}: the {head.name} head ({head.about}; {sizes})"
    sizes_of = {name: len(stores) for name, stores in report.splits[0].ensemble.groups.items()}
    models = {name: f" ({size} models)" if size > 1 else "" for name, size in sizes_of.items()}
    used = {name: weight for name, weight in found.weights.items() if weight > 0}
    shown = (f"{visible(name)} {weight:.4g}{models[name]}" for name, weight in used.items())
    return f"best weights by {found.method}: {', '.join(shown)}"


def learned_lines(found: SearchResult) -> list[str]:
    """How a head was chosen and what it learned, for people; scores on cells of inner folds."""
    told = found.notes.get("learned")
    if found.head is None or not told:
        return []
    how = f"strength {told['strength']:g}, temperature {told['temperature']:.3g}"
    said = [f"the head: {how}, {_shown(told['held_out'])} on held-out cells"]
    for form, each in told["forms"].items():
        paths = ", ".join(f"{s} {_shown(score)}" for s, score in each["held_out"].items())
        said.append(f"  {form}, {each['parameters']} parameters, by strength: {paths}")
        if each["stopped"] is not None:
            kept = "what was best before it is kept"
            said.append(f"  {form}: the loss was no number at step {each['stopped']}; {kept}")
    if told["unseen"]:
        names = listed(told["unseen"])
        said.append(f"classes without a labelled pixel keep the smaller form's weights: {names}")
    if mixed := strongest(found.head, MIXED):
        said += ["mixed most:", *(f"  {line}" for line in mixed)]
    if told["curve"]:
        points = (
            f"{row['models']}: {_shown(row['held_out'])}{'*' * row['front']}"
            for row in told["curve"]
        )
        said.append(f"by number of models, held-out cells: {', '.join(points)}")
        said.append("  (*: no fewer models score as much; cells chose the models too)")
        dropped = [u for u in told["curve"][0]["kept"] if u not in found.head.units]
        if dropped:
            said.append(f"{len(dropped)} models dropped: {listed(dropped, len(dropped))}")
    return said


def _shown(score: float | None) -> str:
    return "-" if score is None else percent(score)


def objective_title(name: str) -> str:
    """What a column of scores is called."""
    return f"mIoU % ({name})" if name in CONVENTIONS else f"{name} %"
