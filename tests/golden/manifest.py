"""What small versions of all studies give, written down: a refactoring must not change it.

    python -m tests.golden.manifest --compare [STUDY ...]     what differs from the manifest; exit code 1 if anything
    python -m tests.golden.manifest --write [STUDY ...]       write it, with the digests of this platform
    python -m tests.golden.manifest --compare --keep FOLDER   keeps the run folders
    python -m tests.golden.manifest --bytes FOLDER FOLDER     two such trees of run folders, file by file

Run it at the root of the repository. The manifest has three parts for each study. `structure`: names, shapes and types,
the same everywhere. `numbers`: count of values, sum and sum of squares, and count of those that are not finite if any;
compared within a tolerance, on any processor. `digests`: SHA-256 of all values, compared exactly, on platforms that are
in the manifest. Values of trajectories are digested twice, by dataset over all members and by member over all datasets,
so that a difference is found in both directions.

Figures are recorded as geometry: limits, scales, and the coordinates of everything drawn, without any text. Only the
commands `wgflow.sims.run` and `wgflow.analysis.report` are imported; files are read by h5py and the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import platform as machine
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.golden.studies import STARTS, STUDIES

PLACE = Path(__file__).with_name("manifest.json")
PACKAGES = ("numpy", "scipy", "numba", "h5py", "matplotlib", "scikit-learn", "torch")
SETTINGS = ("OPENBLAS_CORETYPE", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES")
VOLATILE = {  # keys of documents
    "provenance", "wgflow", "kernels", "python", "packages", "machine", "host", "hostname", "command", "started",
    "ended", "time", "seconds", "version",
}  # fmt: skip
VOLATILE_DATASETS = {"parameters/provenance", "h5md/creator@version"}
TOLERANCE = 1e-6  # of portable numbers, relative
ABSOLUTE = 1e-12  # of a value: what rounding leaves where the exact result is 0
TIMESTAMP = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+\d\d:\d\d| UTC|Z)?")
NUMERAL = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
POWER = re.compile(r"(×10|(?<![\d.])10)([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")  # a power of ten as it is typeset
RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
COMMAND = re.compile(rb"python -m wgflow[.][^<\n]*")  # in a page; options differ with the folder


def platform() -> str:
    """Processor and packages on which the last bits depend."""
    name = machine.processor() or machine.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    parts = [" ".join(name.split())]
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{package} {importlib.metadata.version(package)}")
    return "; ".join(parts + [f"{each}={os.environ[each]}" for each in SETTINGS if each in os.environ])


class Record:
    """Structure, numbers and digests of one study, while they are gathered."""

    def __init__(self) -> None:
        self.structure: dict[str, Any] = {}
        self._values: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0])
        self._hashes: dict[str, Any] = defaultdict(hashlib.sha256)

    def add(self, item: str, values: Any, *, numbers: bool = True) -> None:
        """Take in an array of numbers, or a text."""
        if isinstance(values, str | bytes):
            self._hashes[item].update((values.encode() if isinstance(values, str) else values) + b"\0")
            return
        values = np.ascontiguousarray(values)
        self._hashes[item].update(f"{values.dtype.str}{values.shape}".encode() + values.tobytes())
        if numbers and values.dtype.kind in "fiu":
            finite = values.astype(float)[np.isfinite(values)]
            found = self._values[item]
            found[0] += values.size
            found[1] += float(finite.sum())
            found[2] += float(np.square(finite).sum())
            found[3] += values.size - finite.size

    def made(self) -> dict[str, Any]:
        """The three parts, ready for JSON."""
        numbers = {
            item: [short(value) for value in (found if found[3] else found[:3])]
            for item, found in self._values.items()
            if found[0]
        }
        digests = {item: found.hexdigest()[:12] for item, found in self._hashes.items()}
        return {"structure": self.structure, "numbers": numbers, "digests": digests}


def short(value: float) -> float:
    """A number to twelve digits, without a point where it is whole."""
    value = float(f"{value:.12g}")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def leaves(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a JSON document with their paths, in which all places of a list are one, without the volatile ones."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in VOLATILE:
                yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(document, list):
        for value in document:
            yield from leaves(value, f"{path}[]")
    else:
        yield path, document


def numerals(text: str) -> str:
    """A word as it is; of a sentence, which may be put in other words, the numbers alone."""
    if " " not in text:
        return text
    text = POWER.sub(lambda power: power[1].replace("×10", "e").replace("10", "1e") + power[2].translate(RAISED), text)
    return " ".join(NUMERAL.findall(text.replace("−", "-")))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def datasets(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Every dataset and attribute of a file by name; values of references, which are addresses, as None."""
    found: list[tuple[str, Any]] = []

    def visit(name: str, thing: Any) -> None:
        for key in sorted(thing.attrs):
            kind = thing.attrs.get_id(key).dtype
            found.append((f"{name}@{key}", None if kind.kind in "OV" else np.asarray(thing.attrs[key])))
        if isinstance(thing, h5py.Dataset):
            found.append((name, np.asarray(thing[()])))

    visit("", file)
    file.visititems(visit)
    return iter(found)


def document(name: str, value: np.ndarray | None) -> Any:
    """The JSON document in a text dataset, or None."""
    if value is None or value.shape != () or value.dtype.kind not in "SO":
        return None
    text = value[()]
    with contextlib.suppress(ValueError):
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    return None


def of_trajectories(record: Record, paths: Sequence[Path]) -> None:
    shapes: dict[str, Counter[str]] = defaultdict(Counter)
    owners: dict[str, dict[str, None]] = defaultdict(dict)
    for place, path in enumerate(paths):
        attributes: dict[str, list[str]] = defaultdict(list)
        with h5py.File(path) as file:
            for name, value in datasets(file):
                owner, _, attribute = name.partition("@")
                text = value is not None and value.dtype.kind in "SO"
                kind = "text" if text else "" if value is None else f"{value.dtype} {'x'.join(map(str, value.shape))}"
                if attribute:
                    attributes[owner].append(f"{attribute} {kind if value is not None and value.shape else ''}".strip())
                if name in VOLATILE_DATASETS:
                    shapes[owner]["left out"] += not attribute
                    continue
                if value is None:
                    continue
                found = document(name, value)
                if isinstance(found, dict | list):
                    pairs = list(leaves(found))
                    kind = " ".join(f"{key}:{type(leaf).__name__}" for key, leaf in pairs)
                    value = "".join(f"{key}={leaf!r}\n" for key, leaf in pairs)
                elif text:
                    value = repr(value.tolist())
                if not attribute:
                    shapes[name][kind] += 1
                plain = not attribute and "/" in name and not name.startswith("wgflow/")
                record.add(f"h5 {owner if attribute else name}", value, numbers=plain)
                record.add(f"member {place}", name)
                moving = plain and name.startswith(("observables/", "particles/"))
                record.add(f"member {place}", value, numbers=moving)
        for owner, names in attributes.items():
            owners[", ".join(names)][owner] = None
    record.structure["trajectories"] = {
        name: next(iter(found)) if list(found.values()) == [len(paths)] else dict(sorted(found.items()))
        for name, found in sorted(shapes.items())
        if found.total()
    }
    record.structure["attributes"] = {names: " ".join(sorted(found)) for names, found in sorted(owners.items())}


def of_csv(record: Record, path: Path, name: str) -> None:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    record.structure[name] = {"columns": rows[0], "rows": len(rows) - 1}
    for place, column in enumerate(rows[0]):
        numbers = []
        for row in rows[1:]:
            record.add(f"{name}: {column}", numerals(row[place]))
            with contextlib.suppress(ValueError):
                numbers.append(float(row[place]))
        if numbers:
            record.add(f"{name}: {column}", np.array(numbers))


def of_json(record: Record, path: Path, name: str) -> None:
    """A summary by its keys; the description of a study, which holds nothing computed, as a part of the structure."""
    found = json.loads(path.read_text())
    if path.name == "study.json":
        text = json.dumps(list(leaves(found)))
        record.structure[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return
    kinds: dict[str, set[str]] = defaultdict(set)
    for key, value in leaves(found):
        kinds[key].add("number" if is_number(value) else type(value).__name__)
        part = f"{name}: {key.partition('.')[0].removesuffix('[]')}"
        record.add(part, f"{key}={numerals(value) if isinstance(value, str) else value!r}")
        if is_number(value) and not key.startswith("members[]"):  # members are in summary.csv
            record.add(f"{name}: {key}", np.array(float(value)))
    parts: dict[str, list[str]] = defaultdict(list)
    for key, kind in sorted(kinds.items()):
        owner, _, last = key.rpartition(".")
        parts[owner].append(f"{last}:{'/'.join(sorted(kind))}")
    record.structure[name] = {owner: " ".join(every) for owner, every in parts.items()}


def of_events(record: Record, path: Path, name: str) -> None:
    """What happened, in order, without when."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    record.structure[name] = dict(sorted(Counter(line["event"] for line in lines).items()))
    for line in lines:
        record.add(name, f"{line['event']} {line.get('member', '')}")


class Drawings:
    """Geometry of every figure that is saved meanwhile."""

    def __init__(self) -> None:
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.page: list[list[dict[str, Any]]] = []  # those that went into a page only

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look at figures where Matplotlib saves them, whoever asks for it."""
        from matplotlib.figure import Figure

        save = Figure.savefig

        def watched(figure: Any, target: Any, *arguments: Any, **options: Any) -> Any:
            found = geometry(figure)
            if isinstance(target, str | os.PathLike):
                self.files[Path(target).stem] = found
            else:
                self.page.append(found)
            return save(figure, target, *arguments, **options)

        Figure.savefig = watched
        try:
            yield
        finally:
            Figure.savefig = save

    def all(self) -> dict[str, list[dict[str, Any]]]:
        """Figures by the names of their files, and those of pages that are in no file."""
        known = {signature(found) for found in self.files.values()}
        extra: dict[str, list[dict[str, Any]]] = {}
        for found in self.page:
            if signature(found) not in known:
                known.add(signature(found))
                extra[f"page-{len(extra) + 1}"] = found
        return self.files | extra


def geometry(figure: Any) -> list[dict[str, Any]]:
    """For each axes its scales, and lists of arrays for limits, lines, collections, patches and images."""
    every = list(figure.axes)
    for axes in every:
        every += [inset for inset in axes.child_axes if inset not in every and hasattr(inset, "lines")]
    found = []
    for axes in every:
        shown: dict[str, Any] = {"scales": f"{axes.get_xscale()} {axes.get_yscale()}"}
        shown["limits"] = [np.array([axes.get_xlim(), axes.get_ylim()])]
        shown["lines"] = [np.asarray(line.get_xydata(), float) for line in axes.lines]
        shown["collections"] = []
        for each in axes.collections:
            arrays = [np.ma.filled(each.get_offsets(), np.nan), *(path.vertices for path in each.get_paths())]
            if each.get_array() is not None:
                arrays.append(np.ma.filled(np.ma.asarray(each.get_array(), float), np.nan).ravel())
            shown["collections"] += [np.asarray(array, float) for array in arrays]
        shown["patches"] = [
            np.asarray(patch.get_patch_transform().transform(patch.get_path().vertices)) for patch in axes.patches
        ]
        shown["images"] = [np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan) for image in axes.images]
        shown["artists"] = [len(getattr(axes, kind)) for kind in ("lines", "collections", "patches", "images")]
        found.append(shown)
    return found


def signature(found: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for axes in found:
        for kind, arrays in axes.items():
            digest.update(f"{kind}{arrays if kind in ('scales', 'artists') else len(arrays)}".encode())
            if kind not in ("scales", "artists"):
                for array in arrays:
                    digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def of_figures(record: Record, drawings: Drawings) -> None:
    for name, every in sorted(drawings.all().items()):
        shape = []
        for place, axes in enumerate(every):
            shape.append([axes["scales"], *axes["artists"]])
            for kind in ("limits", "lines", "collections", "patches", "images"):
                for array in axes[kind]:
                    record.add(f"figure {name}[{place}] {kind}", array)
        record.structure[f"figure {name}"] = shape


def lacks(study: str) -> list[str]:
    """Packages that a study needs and that are not there."""
    return [name for name in ("matplotlib", "sklearn", *STUDIES[study].needs) if importlib.util.find_spec(name) is None]


def manifest_of(study: str, place: Path) -> dict[str, Any]:
    """Run the small version of a study into a folder and record what it gives."""
    from wgflow.sims import run

    small, drawings = STUDIES[study], Drawings()
    changes = [part for change in small.changes for part in ("--set", change)]
    plain = ["--jobs", "1", "--threads", "1", "--quiet", "--backend", "cpu"]
    with drawings.watched(), contextlib.redirect_stdout(io.StringIO()):
        if (code := run.main([study, "--out", str(place), *plain, *changes])) != 0:
            raise RuntimeError(f"{study}: exit code {code}")
        (folder,) = (path for path in place.glob(f"{study}/*") if path.is_dir() and not path.is_symlink())
        if small.theorems:
            from wgflow.analysis import report

            if (code := report.main([str(folder), "--starts", str(STARTS), "--quiet"])) != 0:
                raise RuntimeError(f"{study}: exit code {code} of the theorem report")
    if lost := [name for name in small.figures if name not in drawings.files]:
        raise RuntimeError(f"{study}: not drawn: {', '.join(lost)}")
    record = Record()
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    record.structure["files"] = [folder.name, *files]
    of_trajectories(record, [folder / name for name in files if name.endswith(".h5")])
    for name in files:
        if name.endswith(".csv"):
            of_csv(record, folder / name, name)
        elif name.endswith(".json"):
            of_json(record, folder / name, name)
        elif name.endswith(".jsonl"):
            of_events(record, folder / name, name)
    of_figures(record, drawings)
    return record.made()


def paths_that_differ(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two structures differ, with the old and the new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in paths_that_differ(old.get(key, "(none)"), new.get(key, "(none)"), f"{path} / {key}".strip(" /"))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) != len(new):
        gone, come = [each for each in old if each not in new], [each for each in new if each not in old]
        return [f"{path}: {len(old)} -> {len(new)}; gone {gone}, new {come}"]
    if isinstance(old, list) and isinstance(new, list):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for place, (a, b) in pairs for line in paths_that_differ(a, b, f"{path}[{place}]")]
    return [] if old == new else [f"{path}: {old} -> {new}"]


def near(old: Sequence[float], new: Sequence[float], tolerance: float) -> bool:
    """Whether the values behind two rows of numbers can be the same but for rounding.

    A sum is compared relative to the largest that values of these squares can have: cancellation is no difference.
    """
    (count, total, squares, *infinite), (count_new, total_new, squares_new, *infinite_new) = old, new
    if count != count_new or infinite != infinite_new:
        return False
    most = max(squares, squares_new)
    sums = abs(total - total_new) <= tolerance * math.sqrt(count * most) + count * ABSOLUTE
    return (
        sums and abs(squares - squares_new) <= 2 * tolerance * most + count * ABSOLUTE * math.sqrt(most) + ABSOLUTE**2
    )


def named(line: str, found: dict[str, Any]) -> str:
    """A line on a member, which the manifest knows by its place, with the name of its file."""
    files = [name for name in found["structure"]["files"] if name.endswith(".h5")]
    match = re.match(r"member (\d+)", line)
    return f"{files[int(match[1])]}{line[match.end() :]}" if match and int(match[1]) < len(files) else line


def differences(study: str, kept: dict[str, Any], found: dict[str, Any], here: str) -> dict[str, list[str] | None]:
    """Lines for each of the three parts; None for digests that the manifest does not have for this platform."""
    old, small = kept["studies"].get(study), STUDIES[study]
    if old is None:
        return {"structure": ["not in the manifest"], "numbers": [], "digests": None}
    numbers = []
    for item in sorted(old["numbers"].keys() | found["numbers"].keys()):
        a, b = old["numbers"].get(item), found["numbers"].get(item)
        if a is None or b is None or not near(a, b, small.loose.get(item, TOLERANCE)):
            numbers.append(f"{named(item, found)}: {a} -> {b}")
    digests = kept["digests"].get(here, {}).get(study)
    if digests is not None:
        inexact = small.loose.keys() | {item.partition("[]")[0] for item in small.loose}
        kept, new = ({k: v for k, v in each.items() if k not in inexact} for each in (digests, found["digests"]))
        digests = [named(line, found) for line in paths_that_differ(kept, new)]
    return {
        "structure": paths_that_differ(old["structure"], found["structure"]),
        "numbers": numbers,
        "digests": digests,
    }


def load() -> dict[str, Any]:
    """The committed manifest."""
    return json.loads(PLACE.read_text()) if PLACE.is_file() else {"studies": {}, "digests": {}}


def dumps(kept: dict[str, Any]) -> str:
    """Compact JSON: one line for each part of a study."""

    def line(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def table(rows: dict[str, Any], inner: Any) -> str:
        return "{\n" + ",\n".join(f"{json.dumps(key)}:{inner(rows[key])}" for key in sorted(rows)) + "\n}"

    studies = table(kept["studies"], lambda parts: table(parts, line))
    digests = table(kept["digests"], lambda found: table(found, line))
    return f'{{\n"studies":{studies},\n"digests":{digests}\n}}\n'


def stable_bytes(path: Path, root: Path) -> bytes:
    """Content of a file without what two runs of the same program differ in."""
    if path.suffix == ".h5":
        record = Record()
        of_trajectories(record, [path])
        return json.dumps(record.made(), sort_keys=True).encode()
    if path.suffix == ".json":
        return json.dumps(list(leaves(json.loads(path.read_text())))).encode()
    if path.suffix == ".jsonl":
        lines = [list(leaves(json.loads(line))) for line in path.read_text().splitlines()]
        return json.dumps([[pair for pair in line if pair[0] in ("event", "member")] for line in lines]).encode()
    content = path.read_bytes()
    if path.suffix == ".html":
        for folder in {str(root), str(root.resolve())}:
            content = content.replace(folder.encode(), b"FOLDER")
        content = COMMAND.sub(b"COMMAND", TIMESTAMP.sub(b"WHEN", content))
    return content


def bytes_that_differ(first: Path, second: Path) -> list[str]:
    """Files of two trees that are not in both, or not the same."""
    trees = [{path.relative_to(root): path for path in root.rglob("*") if path.is_file()} for root in (first, second)]
    lines = []
    for name in sorted(trees[0].keys() | trees[1].keys()):
        if name not in trees[0] or name not in trees[1]:
            lines.append(f"{name}: only in {first if name in trees[0] else second}")
            continue
        a, b = stable_bytes(trees[0][name], first), stable_bytes(trees[1][name], second)
        if a != b:
            at = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            lines.append(f"{name}: {len(a)} and {len(b)} bytes, differ from byte {at}")
            if path_is_text(name):
                lines += [f"    {part[max(at - 40, 0) : at + 60]!r}" for part in (a, b)]
    return lines


def path_is_text(path: Path) -> bool:
    return path.suffix in (".csv", ".html", ".json", ".jsonl", ".h5")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def alone(study: str, place: Path) -> dict[str, Any]:
    """Manifest of a study run in a process of its own: BLAS sums in an order that depends on where arrays lie."""
    command = [sys.executable, "-m", "tests.golden.manifest", "--of", study, "--keep", str(place / study)]
    fixed = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=PLACE.parents[2], env=fixed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{study}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(names: Sequence[str], place: Path) -> int:
    kept, here, differ = load(), platform(), False
    for study in names:
        if missing := lacks(study):
            say(f"{study}: skipped, needs {', '.join(missing)}")
            continue
        for part, lines in differences(study, kept, alone(study, place), here).items():
            if lines is None:
                say(f"{study}: {part}: skipped, none in the manifest for {here}")
            else:
                say(f"{study}: {part}: {'the same' if not lines else f'{len(lines)} differ'}")
                for line in lines:
                    say(f"    {line}")
                differ |= bool(lines)
    return int(differ)


def write(names: Sequence[str], place: Path) -> int:
    kept, here = load(), platform()
    kept["studies"] = {study: parts for study, parts in kept["studies"].items() if study in STUDIES}
    for study in names:
        if missing := lacks(study):
            say(f"{study}: left as it is, needs {', '.join(missing)}")
            continue
        found = alone(study, place)
        old = kept["digests"].setdefault(here, {}).get(study)
        kept["digests"][here][study] = found.pop("digests")
        kept["studies"][study] = found
        say(f"{study}: {'the same digests' if old == kept['digests'][here][study] else 'new digests'}")
    PLACE.write_text(dumps(kept), encoding="utf-8")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if anything differs."""
    make = argparse.ArgumentParser(prog="python -m tests.golden.manifest", description="Results that must not change.")
    what = make.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the manifest, adding this platform")
    what.add_argument("--compare", action="store_true", help="say what differs from the manifest")
    what.add_argument("--of", metavar="STUDY", help="print the manifest of one study as JSON")
    what.add_argument("--bytes", nargs=2, type=Path, metavar="FOLDER", help="compare two trees of run folders")
    make.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run folders here (must be empty)")
    make.add_argument("studies", nargs="*", metavar="STUDY", help="default: all")
    given = make.parse_args(arguments)
    if unknown := set(given.studies) - set(STUDIES):
        make.error(f"unknown: {', '.join(sorted(unknown))}")
    if given.bytes:
        lines = bytes_that_differ(*given.bytes)
        say("\n".join(lines) or "the same")
        return int(bool(lines))
    with contextlib.ExitStack() as stack:
        place = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if place.is_dir() and any(place.iterdir()):
            make.error(f"{place}: expected an empty folder")
        if given.of:
            say(json.dumps(manifest_of(given.of, place)))
            return 0
        return (write if given.write else compare)(given.studies or list(STUDIES), place)


if __name__ == "__main__":
    sys.exit(main())
