"""All that a GPU is needed for, in the minutes that one is had: `python -m benchmarks.gpu [--out
FOLDER] [--minutes 10] [--interpret]`.

Stages in order of importance, each a process of its own that ends when its time is up; what a stage
found is on disk as it is found. Needs this repository, torch with Triton, and none of pytest,
network or data; SEGFUSION_DATA adds cases of real networks.

    correctness   the kernels' contract cases, those first that cover every pair of parameters
    benchmark     every case of benchmarks.fusion: kernels by device events, whole calls beside them
    stream        stores to labels and to counts, beside frame by frame, reading alone, the CPU
    launch        the host's time a frame (benchmarks.launch)
    compiled      the benchmark again with torch.compile among the peers
    rest          the contract cases that are left

FOLDER gets gpu.md (the tables, with device, versions and date), gpu-<stage>.jsonl and, as soon as
there is one, gpu-failures.txt. `--interpret` runs a little of everything by Triton's interpreter on
the CPU: that it runs, not how fast.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MOST_WORKERS = 8  # processes that share the GPU while kernels are compiled
Row = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A part of the run: its share of the minutes, and whether several processes share it."""

    name: str
    share: float
    shared: bool = False


STAGES = (
    Stage("correctness", 0.28, shared=True),
    Stage("benchmark", 0.22),
    Stage("stream", 0.15),
    Stage("launch", 0.05),
    Stage("compiled", 0.15),
    Stage("rest", 0.15, shared=True),
)


@dataclass(frozen=True)
class Run:
    """What every stage is told. few: cases of the contracts at most, None for all."""

    out: Path
    interpret: bool = False
    few: int | None = None
    share: tuple[int, int] = (0, 1)

    @property
    def device(self) -> Any:
        import torch

        return torch.device("cpu" if self.interpret else "cuda")

    def file(self, stage: str) -> Path:
        return self.out / f"gpu-{stage}.jsonl"

    def tell(self, stage: str, row: Row) -> None:
        """One line, written at once; several processes append."""
        with self.file(stage).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def failed(self, what: str) -> None:
        with (self.out / "gpu-failures.txt").open("a") as file:
            file.write(what.rstrip() + "\n\n")


def correctness(run: Run, first: bool = True) -> Iterator[Row]:
    """Contract cases: those that cover all pairs of parameters, or the others."""
    from benchmarks import cases

    every = cases.collect()
    cases.untuned()
    some = cases.covering(every)
    if not first:
        told = set(map(id, some))
        some = cases.in_turn([case for case in every if id(case) not in told])
    place, number = run.share
    for case in some[: run.few][place::number]:
        began, said = time.perf_counter(), "ok"
        try:
            case.run()
        except cases.Skipped as error:
            said = f"skipped: {error}"
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)[:300]}"
            run.failed(f"{case.title}\n{traceback.format_exc()[-3000:]}")
        took = time.perf_counter() - began
        yield {"operation": case.operation, "case": case.title, "status": said, "seconds": took}


def benchmark(run: Run, compiles: bool = False) -> Iterator[Row]:
    """Rows of benchmarks.fusion."""
    from benchmarks import fusion

    rounds, cases = (1 if run.interpret else 30), fusion.CASES.values()
    for case in cases:
        try:
            rows = fusion.run_case(case, run.device, run.interpret, rounds, compiles)
        except Exception as error:
            run.failed(f"benchmark {case.name}\n{traceback.format_exc()[-3000:]}")
            yield {"case": case.name, "contender": "", "status": f"{type(error).__name__}: {error}"}
            continue
        for row in rows:
            if not compiles or "compile" in row.contender or "fusion" in row.contender:
                yield asdict(row)


def launch(run: Run) -> Iterator[Row]:
    """The host's time."""
    from benchmarks import launch as launching

    yield from launching.measured(run.device, *((1, 2) if run.interpret else (9, 16)))


def stream(run: Run) -> Iterator[Row]:
    """Stores to labels."""
    from benchmarks import gpu_stream

    yield from gpu_stream.measured(run.device, run.interpret)


WORK: dict[str, Callable[[Run], Iterator[Row]]] = {
    "correctness": correctness,
    "benchmark": benchmark,
    "stream": stream,
    "launch": launch,
    "compiled": lambda run: benchmark(run, compiles=True),
    "rest": lambda run: correctness(run, first=False),
}


def work(stage: str, run: Run) -> None:
    """A stage, in this process."""
    if run.interpret:  # tensors in host memory go to the interpreted kernels
        from fusion.kernels import backends

        backends.BACKENDS = (backends.Backend("triton", "cpu"),)
    try:
        for row in WORK[stage](run):
            run.tell(stage, row)
    except Exception:
        run.failed(f"stage {stage}\n{traceback.format_exc()[-3000:]}")
        raise


def spawn(stage: Stage, run: Run, seconds: float) -> str:
    """Runs a stage in processes of its own; how it ended."""
    number = 1
    if stage.shared and not run.interpret:
        number = max(1, min(MOST_WORKERS, (os.cpu_count() or 2) // 2))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    if run.interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "benchmarks.gpu", "--stage", stage.name, "--out", str(run.out)]
    command += ["--interpret"] * run.interpret
    command += [] if run.few is None else ["--few", str(run.few)]
    ends, until = [], time.monotonic() + seconds
    made = [
        subprocess.Popen([*command, "--part", f"{k}/{number}"], cwd=ROOT, env=environment)
        for k in range(number)
    ]
    for process in made:
        try:
            code = process.wait(max(0.1, until - time.monotonic()))
            ends.append("whole" if code == 0 else f"failed ({code})")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ends.append("cut off")
    return max(ends, key=lambda end: (end.startswith("failed"), end == "cut off"))


def rows_of(run: Run, stage: str) -> list[Row]:
    """What a stage has found so far; a line that was cut off is left out."""
    found = []
    for line in run.file(stage).read_text().splitlines() if run.file(stage).exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def environment(run: Run) -> dict[str, Any]:
    """Device, driver, versions and date."""
    import torch

    from benchmarks import measure

    made: dict[str, Any] = {"date": datetime.date.today().isoformat()}
    made |= measure.environment(run.device)
    if run.device.type == "cuda":
        one = torch.cuda.get_device_properties(run.device)
        made |= {"memory": f"{one.total_memory / 2**30:.0f} GiB", "cuda": torch.version.cuda or ""}
        made["copy"] = f"{measure.copy_bandwidth(run.device, 1 << 30) / 1e12:.2f} TB/s"
    return made


def table(rows: list[Row], columns: list[str]) -> str:
    """Markdown; floats to four digits, nothing for what a row has not."""

    def shown(value: Any) -> str:
        text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        return text.replace("|", "/").replace("\n", " ")

    lines = [columns, ["---"] * len(columns)]
    lines += [[shown(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


COLUMNS = {
    "benchmark": ["case", "contender", "status", "median_ms", "p20_ms", "p80_ms", "frames_per_s",
                  "bytes_per_s", "fraction_of_floor", "peak_mb", "times_fusion"],
    "stream": ["what", "status", "frames_per_s", "p20", "p80", "ms_a_frame"],
    "launch": ["case", "way", "us_a_frame", "p20", "p80", "times"],
}  # fmt: skip
COLUMNS["compiled"] = COLUMNS["benchmark"]


def write(run: Run, facts: dict[str, Any], ends: dict[str, str]) -> Path:
    """gpu.md of all that is there so far."""
    parts = ["# On a GPU" if not run.interpret else "# By Triton's interpreter: no speed in it"]
    parts.append(", ".join(f"{name} {value}" for name, value in facts.items() if value != ""))
    for stage, end in ends.items():
        parts.append(f"## {stage}: {end}")
        rows = rows_of(run, stage)
        if stage in COLUMNS:
            parts.append(table(rows, COLUMNS[stage]))
            continue
        counted = []
        for name in dict.fromkeys(row["operation"] for row in rows):
            said = [row["status"] for row in rows if row["operation"] == name]
            passed, skipped = said.count("ok"), sum(s.startswith("skipped") for s in said)
            failed = len(said) - passed - skipped
            counted.append({"operation": name, "passed": passed, "failed": failed,
                            "skipped": skipped})  # fmt: skip
        parts.append(table(counted, ["operation", "passed", "failed", "skipped"]))
        wrong = [row for row in rows if row["status"] != "ok"]
        parts += [table(wrong, ["case", "status"])] if wrong else []
    path = run.out / "gpu.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def run_all(run: Run, minutes: float, only: list[str] | None = None) -> int:
    """All stages one after the other; what one leaves of its time is the next ones'."""
    run.out.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        run.file(stage.name).unlink(missing_ok=True)
    (run.out / "gpu-failures.txt").unlink(missing_ok=True)
    until, ends, facts = time.monotonic() + 60 * minutes, dict[str, str](), environment(run)
    chosen = [stage.name for stage in STAGES] if only is None else only
    if run.interpret and only is None:
        chosen.remove("compiled")  # peers that have nothing to do with kernels
    left = [stage for stage in STAGES if stage.name in chosen]
    while left:
        stage, shares = left.pop(0), sum(each.share for each in left)
        seconds = (until - time.monotonic()) * stage.share / (stage.share + shares)
        if seconds < 1:
            ends[stage.name] = "no time"
            continue
        print(f"{stage.name}: up to {seconds:.0f} s", file=sys.stderr)
        ends[stage.name] = spawn(stage, run, seconds)
        path = write(run, facts, ends)
        print(f"{stage.name}: {ends[stage.name]}, {len(rows_of(run, stage.name))} rows")
    print(path.read_text())
    wrong = (run.out / "gpu-failures.txt").exists()
    return int(wrong or any(end.startswith("failed") for end in ends.values()))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="All that a GPU is needed for."
    )
    names = [stage.name for stage in STAGES]
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=10, help="for all stages (default: 10)")
    parser.add_argument("--interpret", action="store_true", help="tiny, without a GPU")
    parser.add_argument("--few", type=int, help="contract cases of a stage at most")
    parser.add_argument("--only", nargs="+", choices=names, help="these stages alone")
    parser.add_argument("--stage", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--part", default="0/1", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    place, number = map(int, given.part.split("/"))
    few = 25 if given.interpret and given.few is None else given.few
    run = Run(given.out.absolute(), given.interpret, few, (place, number))
    if given.stage:
        work(given.stage, run)
        return 0
    return run_all(run, given.minutes, given.only)


if __name__ == "__main__":
    sys.exit(main())
