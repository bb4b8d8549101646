"""Runs the kinds of faults one after another: see `benchmarks/faults/__init__.py`."""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults import contested, damaged, forked, killed
from benchmarks.faults.attempt import Attempt, Undisturbed
from benchmarks.faults.judge import Case, judge, note_state
from benchmarks.faults.place import ROOT, SCRATCH, Place
from benchmarks.faults.prepare import prepare
from benchmarks.faults.record import Snapshot
from benchmarks.report import keep

CASES = SCRATCH / "cases.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- the table of make faults -->", "<!-- end -->"
COUNTS = ("lost", "twice", "silent", "unequal")

Kind = Callable[[Undisturbed], Iterator[Attempt]]


def main() -> None:
    """Try what is not tried yet, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind")
    parser.add_argument("--at-most", type=int, help="so many faults of each kind, for a first look")
    parser.add_argument("--fresh", action="store_true", help="forget what was tried before")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    if options.fresh:
        shutil.rmtree(SCRATCH, ignore_errors=True)

    prepare()
    reference, undisturbed = run_undisturbed(with_ray=bool(WITH_RAY & set(kinds)))
    cases = read_cases()
    for kind in kinds:
        try_kind(kind, undisturbed, reference, cases, options.at_most)
    write_table(list(cases.values()))


def run_undisturbed(with_ray: bool) -> tuple[Snapshot, Undisturbed]:
    """Run the study without a fault; with Ray too, where a kind of faults needs it."""
    for name in ("warm", "calm"):  # the first one measures what trainings cost, which is kept
        place = Place(name)
        start = time.monotonic()
        ending = forked.run(place)
        seconds = time.monotonic() - start
        if ending.code:
            raise SystemExit(f"the undisturbed study ended with {ending.code}: {ending.err}")
    writes = len((place.folder / "writes.txt").read_text().splitlines())
    reference = place.take_snapshot()

    real_seconds = 0.0
    if with_ray:
        place = Place("calm with Ray")
        before = note_state(place)
        start = time.monotonic()
        ending = place.run()
        real_seconds = time.monotonic() - start
        case = judge("calm", "with Ray", place, before, reference, [ending])
        if not case.survived:
            raise SystemExit(f"the undisturbed study with Ray differs: {case}\n{ending.err}")
    print(f"undisturbed: {writes} writes, {seconds:.1f} s; with Ray {real_seconds:.1f} s")
    return reference, Undisturbed(writes, seconds, real_seconds)


def try_kind(
    kind: str,
    undisturbed: Undisturbed,
    reference: Snapshot,
    cases: dict[tuple[str, str], Case],
    at_most: int | None,
) -> None:
    """Try all faults of a kind that are not tried yet, and print a line about them."""
    start = time.monotonic()
    tried = 0
    for attempt in list(KINDS[kind](undisturbed))[:at_most]:
        if (kind, attempt.name) in cases:
            continue
        case = try_once(kind, attempt, reference)
        tried += 1
        if case:
            cases[kind, attempt.name] = case
            with CASES.open("a") as file:
                file.write(json.dumps(case._asdict()) + "\n")
            if not case.survived:
                print(f"  {kind}, {describe(case)}", flush=True)

    row = make_row(kind, [case for case in cases.values() if case.kind == kind])
    counts = ", ".join(f"{name} {row[name]}" for name in (*COUNTS, "other"))
    seconds = f"{tried} of them now, {time.monotonic() - start:.0f} s"
    print(
        f"{kind}: {row['tried']} tried, {row['survived']} survived; {counts} ({seconds})",
        flush=True,
    )


def try_once(kind: str, attempt: Attempt, reference: Snapshot) -> Case | None:
    """Try one fault; None when the study was over before it. A failed case keeps its folder."""
    place = Place(f"{kind} {attempt.name}".replace(" ", "-").replace("%", ""), attempt.born)
    try:
        endings = attempt.disturb(place)
        if not endings:
            place.remove()
            return None
        before = note_state(place)
        attempt.damage(place)
        endings.append(attempt.proceed(place))
        case = judge(kind, attempt.name, place, before, reference, endings)
    finally:
        place.end_all()
        attempt.clean(place)
    if case.survived:
        place.remove()
    return case


def describe(case: Case) -> str:
    """Describe what a fault cost."""
    counts = [f"{name} {getattr(case, name)}" for name in COUNTS if getattr(case, name)]
    return f"{case.name}: {', '.join([*counts, case.other] if case.other else counts)}"


def read_cases() -> dict[tuple[str, str], Case]:
    """Read what was tried before."""
    if not CASES.is_file():
        return {}
    found = [Case(**json.loads(line)) for line in CASES.read_text().splitlines()]
    return {(case.kind, case.name): case for case in found}


def make_row(kind: str, cases: list[Case]) -> dict[str, object]:
    """Make the line of the table for one kind of faults."""
    return {
        "fault": kind,
        "tried": len(cases),
        "survived": sum(case.survived for case in cases),
        **{name: sum(getattr(case, name) for case in cases) for name in COUNTS},
        "other": sum(bool(case.other) for case in cases),
    }


def write_table(cases: list[Case]) -> None:
    """Keep the result, and put its table into the page."""
    rows = []
    for kind in KINDS:
        found = [case for case in cases if case.kind == kind]
        if found:  # a run may have been cut
            rows.append(make_row(kind, found))
    rows.append(make_row("all", cases))
    keep("faults", "What is lost when a study is disturbed and given again?", rows)
    lines = [
        "| fault | tried | survived | finished trials lost | run twice | silent restarts | other "
        "values | else |",
        "|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows),
    ]
    put_into_page(PAGE, "\n".join(lines))


def put_into_page(page: Path, table: str) -> None:
    """Replace what stands between two marks of a page."""
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")


# Kinds of faults that need Ray itself.
WITH_RAY = {"driver with Ray", "signals with Ray", "workers", "node", "stopped", "two drivers"}
WITH_RAY |= {"first commands", "full disks"}

KINDS: dict[str, Kind] = {
    "driver at every write": killed.kill_at_every_write,
    "driver twice": killed.kill_twice,
    "driver at any moment": killed.kill_at_moments,
    "signals": killed.send_signals,
    "damaged checkpoints": damaged.damage_checkpoints,
    "damaged cache": damaged.damage_cache,
    "clock": contested.set_clock_back,
    "other folder": contested.change_folder,
    "locked record": contested.lock_record,
    "server away": contested.take_server_away,
    "full disks": damaged.fill_disks,
    "driver with Ray": killed.kill_real_driver,
    "signals with Ray": killed.signal_real_driver,
    "workers": killed.kill_workers,
    "node": killed.kill_node,
    "stopped": killed.stop_processes,
    "two drivers": contested.run_two_drivers,
    "first commands": contested.give_two_first_commands,
}

if __name__ == "__main__":
    main()
