"""Carry out a Dockerfile without an engine: its pip steps, files and settings, below another folder.

    python .ci/dockerfile.py build FOLDER                 # the steps; /opt/venv becomes FOLDER/opt/venv
    python .ci/dockerfile.py entrypoint FOLDER            # its words, one a line
    python .ci/dockerfile.py environment FOLDER           # NAME=value, one a line

All stages share the folder, since none writes where another does. What is left out is said: apt (this
machine has what it has), caches of an engine, base images.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
IMAGE_FOLDERS = ("opt", "src", "work", "home", "usr/local", "tmp/dist")
"""Which the Dockerfile writes to."""

_BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as base images set it
_PATH = re.compile(rf"(?<![\w./])/(?={'|'.join(IMAGE_FOLDERS)})")
_FLAG = re.compile(r"--(\w+)=(\S+)\s+")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


class Step(NamedTuple):
    """An instruction."""

    stage: str  # its name; empty for a stage without one
    word: str  # in capitals, such as RUN
    flags: list[tuple[str, str]]  # of --mount=… and the like
    rest: str  # on one line


def read_steps(text: str) -> list[Step]:
    """Instructions in their order, without comments and with their continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    steps, stage = list[Step](), ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        flags = list[tuple[str, str]]()
        while found := _FLAG.match(rest):
            flags.append((found[1], found[2]))
            rest = rest[found.end() :]
        if word == "FROM":
            stage = rest.partition(" AS ")[2]
        steps.append(Step(stage, word, flags, rest))
    return steps


def last_stage(steps: list[Step]) -> list[Step]:
    """What makes the image: the last stage, and those it begins from, first things first."""
    starts = [i for i, step in enumerate(steps) if step.word == "FROM"]
    stages = [steps[a:b] for a, b in zip(starts, [*starts[1:], len(steps)], strict=True)]
    chain = stages[-1]
    while named := [s for s in stages if s[0].stage and s[0].stage == chain[0].rest.split()[0]]:
        chain = named[0] + chain
    return chain


def environment(steps: list[Step], below: Path) -> dict[str, str]:
    """What ENV sets, moved below a folder."""
    values = {"PATH": _BASE_PATH}
    for step in steps:
        for pair in shlex.split(step.rest) if step.word == "ENV" else ():
            name, _, value = pair.partition("=")
            moved = _moved(value, below)
            values[name] = _VARIABLE.sub(lambda found: values.get(found[1], ""), moved)
    return values


def entrypoint(steps: list[Step], below: Path) -> list[str]:
    """Its words, with the image's programs found below a folder; an init that is not here is left out."""
    words = json.loads(next(step.rest for step in reversed(steps) if step.word == "ENTRYPOINT"))
    if words[0] == "tini" and shutil.which("tini") is None:
        _say("left out, since it is not here: tini")
        words = words[words.index("--") + 1 :]
    ours = below / "usr/local/bin" / words[0]
    return [str(ours), *words[1:]] if ours.exists() else words


def build(steps: list[Step], below: Path) -> None:
    """Carry out every stage below a folder."""
    folder = below
    for number, step in enumerate(steps):
        if step.word == "WORKDIR":
            folder = Path(_moved(step.rest, below))
            folder.mkdir(parents=True, exist_ok=True)
        elif step.word == "COPY":
            _copy(step, folder, below)
        elif step.word == "RUN":
            _run(step, folder, below, environment(steps[:number], below))


def _copy(step: Step, folder: Path, below: Path) -> None:
    flags = dict(step.flags)
    if "from" in flags:  # another stage's, which lies here already
        if len(set(step.rest.split())) != 1:
            sys.exit(f"COPY {step.rest}: wanted the same path on both sides")
        return
    *sources, target = step.rest.split()
    for source in sources:
        goal = folder / _moved(target, below)
        goal = goal / Path(source).name if target.endswith("/") or goal.is_dir() else goal
        goal.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, goal)
            goal.chmod(int(flags.get("chmod", "0644"), 8))


def _run(step: Step, folder: Path, below: Path, variables: dict[str, str]) -> None:
    if "apt-get" in step.rest:
        _say(f"left out: {step.rest}")
        return
    command = _moved(step.rest, below)
    for mount in (dict(m.split("=") for m in flag.split(",")) for _, flag in step.flags):
        if mount["type"] == "bind":
            source, target = (_moved(mount[key], below) for key in ("source", "target"))
            command = command.replace(target, source)
    _say(f"RUN {command}")
    subprocess.run(  # noqa: S603 - the Dockerfile's own words
        ["/bin/sh", "-ec", command], check=True, cwd=folder, env=_on_this_machine(variables)
    )


def _on_this_machine(variables: dict[str, str]) -> dict[str, str]:
    """With its own settings, such as where pip finds packages, and its own Python behind the image's."""
    path = variables["PATH"].removesuffix(_BASE_PATH) + os.environ["PATH"]
    return {**os.environ, **variables, "PATH": path}


def _moved(text: str, below: Path) -> str:
    return _PATH.sub(f"{below}/", text)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """See the top of this file."""
    what, below = sys.argv[1], Path(sys.argv[2]).resolve()
    steps = read_steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    if what == "build":
        build(steps, below)
    elif what == "entrypoint":
        print("\n".join(entrypoint(steps, below)))
    else:
        print("\n".join(f"{k}={v}" for k, v in environment(last_stage(steps), below).items()))


if __name__ == "__main__":
    main()
