# SPDX-License-Identifier: GPL-2.0-only
"""Check the patches for the kernel in docs/upstream, as the maintainer who gets them would.

A finding is a directory: its patches in the form of mails, and finding.toml, which says what they are of.
"""

import os
import re
import shutil
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from toolkit.errors import UserError
from vm import drivers, experiment, machines, variants
from vm.cmd import cmd
from vm.drivers.build import SOURCES, Tree
from vm.image import image, kernels
from vm.machines import Kernel
from vm.paths import CHECKOUT, cache

FINDINGS = CHECKOUT / "docs/upstream"

#: Nothing of the user's own git configuration may decide whether a patch applies.
_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "upstream",
    "GIT_AUTHOR_EMAIL": "upstream@localhost",
    "GIT_COMMITTER_NAME": "upstream",
    "GIT_COMMITTER_EMAIL": "upstream@localhost",
}


@dataclass(frozen=True)
class Finding:
    """Patches for the kernel, and the experiment that they were tested with.

    :param driver: one with variants (vm/drivers).
    :param machine: of the experiment, for whose kernel the driver is compiled.
    :param variant: the build of the driver whose source is that of the patches.
    :param scenario: of the experiment that compares `stock` with it.
    """

    name: str
    driver: str
    machine: str
    variant: str
    scenario: str

    @property
    def patches(self) -> list[Path]:
        """The mails, in the order in which they apply."""
        return sorted((FINDINGS / self.name).glob("0*.patch"))


def load(name: str) -> Finding:
    """Read a finding.

    :raises UserError: if there is no such finding, or its finding.toml has other keys.
    """
    path = FINDINGS / name / "finding.toml"
    if not path.is_file():
        known = sorted(each.parent.name for each in FINDINGS.glob("*/finding.toml"))
        raise UserError(f"there is no finding {name}; there are {', '.join(known)}.")
    table = tomllib.loads(path.read_text())
    if (names := {field.name for field in fields(Finding)} - {"name"}) != set(table):
        raise UserError(f"{path} has to have the keys {', '.join(sorted(names))}, and no others.")
    finding = Finding(name=name, **table)
    drivers.check(finding.driver, finding.variant)
    return finding


def plan(finding: Finding, seed: int | None) -> experiment.Plan:
    """Return the experiment of a finding: the driver without its patches, and with them."""
    return experiment.plan(
        finding.driver,
        machine=finding.machine,
        builds=["stock", finding.variant],
        scenario=finding.scenario.split(),
        seed=seed,
    )


def check(finding: Finding, tell: Callable[[str], object], say: Callable[[str], None]) -> None:
    """Check the patches of a finding, and stop at the first step that fails.

    :param tell: is given a line for each step that was done.
    :param say: is told of what takes long.
    :raises UserError: if a step fails.
    """
    source = kernels.source(newest(), say)
    tell(f"source: {source.name}")
    with tempfile.TemporaryDirectory(prefix="upstream-", dir=cache()) as directory:
        repository = Path(directory)
        commit(source, drivers.needs(finding.driver).sources, repository)
        say(f"applying the patches of {finding.name}")
        patched(repository, finding)
        for patch in finding.patches:
            tell(f"git am: {patch.name} applies")
        checkpatch(source, finding.patches)
        tell("checkpatch.pl --strict: no error, warning or check")
        tell(f"variant: the patched source is that of {finding.variant}, to the byte")
    say("unpacking the tools of the image")
    with (
        variants.tools(image.ensure(machines.find(finding.machine))) as tree,
        tempfile.TemporaryDirectory(prefix="upstream-", dir=cache()) as directory,
    ):
        repository = Path(directory)
        of_machine = tree.root / SOURCES.relative_to("/")
        commit(of_machine, drivers.needs(finding.driver).sources, repository)
        patched(repository, finding)
        old = compile_module(finding, of_machine, repository, tree)
    tell(f"make W=1: {finding.driver}.ko of {tree.release}, no new warning ({old} without the patches)")


def newest() -> Kernel:
    """Return the newest kernel that is promised: the last of vm/machines.yaml."""
    return machines.kernels()[-1]


def patched(repository: Path, finding: Finding) -> None:
    """Apply the patches of a finding to a repository of its driver's source.

    :raises UserError: if one does not apply, or they make another source than the variant, which is the one
        that experiments test.
    """
    variant = tree_of_variant(repository, finding)
    for patch in finding.patches:
        apply(repository, patch)
    if git(repository, "rev-parse", "HEAD^{tree}") != variant:
        raise UserError(
            f"the patches of {finding.name} make another source than the variant {finding.variant} of "
            f"{finding.driver}, which is the one that experiments test."
        )


def checkpatch(source: Path, patches: list[Path]) -> None:
    """Have a kernel source's own checkpatch.pl look at patches, as strictly as it can.

    :raises UserError: if it complains, with its first complaint.
    """
    words: list[str | Path] = ["perl", source / "scripts/checkpatch.pl", f"--root={source}", "--strict"]
    # Debian's source has no history: whether it has the commits that the patches name cannot be checked.
    words.append("--ignore=UNKNOWN_COMMIT_ID")
    done = cmd(["env", f"GIT_DIR={source}/.none", *words, *patches], check=False)
    if done.returncode:
        raise UserError(f"checkpatch.pl complains: {complaint(done.stdout + done.stderr)}")


def complaint(text: str) -> str:
    """Return the first complaint of checkpatch.pl: with its place and the line."""
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if re.match(r"(ERROR|WARNING|CHECK)\b", line):
            return " ".join(line.strip() for line in lines[number : number + 3])
    return " ".join(lines[-2:]) or "without a word"


def compile_module(finding: Finding, source: Path, repository: Path, tree: Tree) -> int:
    """Build the driver with the tools of an image and all warnings of W=1, without the patches and with them.

    :param source: of the image's kernel, without the patches.
    :param repository: with the driver's source, patched.
    :return: how many warnings there are already without the patches.
    :raises UserError: if the driver does not compile, or with a new warning.
    """
    paths = drivers.needs(finding.driver).sources
    before = _make(finding.driver, [source / path for path in paths], tree)
    after = _make(finding.driver, [repository / path for path in paths], tree)
    if new := new_warnings(before, after):
        raise UserError(f"{finding.driver} compiles with a new warning of W=1: {' | '.join(new[:2])}")
    return len(before)


def _make(driver: str, sources: Sequence[Path], tree: Tree) -> list[str]:
    """Build a driver, and return the warnings."""
    work = tree.root / "tmp" / driver
    shutil.rmtree(work, ignore_errors=True)
    for path in sources:
        _copy(path, work)
    shutil.copy(drivers.HERE / driver / "Kbuild", work / "Kbuild")
    words = ["make", "-C", tree.inside(tree.headers), f"M={tree.inside(work)}", "W=1", f"-j{os.cpu_count()}"]
    # W=1 would also have the comments checked, by a script in Perl; the image's tools have no Perl.
    done = cmd([*tree.enter, *words, "cmd_checkdoc=", "modules"], check=False)
    text = done.stdout + done.stderr
    if done.returncode or not (work / f"{driver}.ko").exists():
        said = [line for line in warnings(text) if "rror:" in line] or text.splitlines()
        raise UserError(f"{driver} does not compile: {' | '.join(said[-2:])}")
    return warnings(text)


def warnings(text: str) -> list[str]:
    """Return the lines of make's output that are warnings or errors of the compiler or of modpost."""
    return [line for line in text.splitlines() if re.search(r"\b(warning|error):", line, re.IGNORECASE)]


def new_warnings(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the warnings that were not there before, wherever in a file they are: a patch moves lines."""

    def anywhere(line: str) -> str:
        return re.sub(r":\d+(:\d+)?:", ":", line)

    left = Counter(map(anywhere, before))
    left.subtract(map(anywhere, after))
    return [line for line in after if left[anywhere(line)] < 0]


def commit(source: Path, paths: Sequence[str], repository: Path) -> None:
    """Put some paths of a kernel source into a new git repository: all of it would take minutes."""
    for path in paths:
        _copy(source / path, repository / (path if (source / path).is_dir() else str(Path(path).parent)))
    git(repository, "init", "--quiet")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", source.name)


def tree_of_variant(repository: Path, finding: Finding) -> str:
    """Return the hash that git gives to the source of the variant; the repository stays as it is."""
    patch = drivers.HERE / finding.driver / f"{finding.variant}.patch"
    wrong = f"the variant {finding.variant} of {finding.driver} does not apply to this source"
    git(repository, "apply", "--index", str(patch), wrong=wrong)
    tree = git(repository, "write-tree")
    git(repository, "reset", "--quiet", "--hard")
    return tree


def apply(repository: Path, patch: Path) -> None:
    """Apply a mail to a repository, and commit it.

    :raises UserError: if it does not apply.
    """
    git(repository, "am", "--quiet", str(patch), wrong=f"{patch.name} does not apply")


def git(repository: Path, *words: str, wrong: str = "") -> str:
    """Run git in a repository, with no configuration but its own.

    :param wrong: what it means if the command fails.
    :return: what it prints.
    """
    settings = [f"{name}={value}" for name, value in _GIT.items()]
    done = cmd(["env", *settings, "git", "-C", repository, *words], check=False)
    if done.returncode:
        said = " | ".join(done.stderr.strip().splitlines()[:2])
        raise UserError(f"{wrong or f'git {words[0]} failed'}: {said}")
    return done.stdout.strip()


def _copy(source: Path, directory: Path) -> None:
    """Copy a file into a directory, or what a directory has in it."""
    directory.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, directory, dirs_exist_ok=True)
    else:
        shutil.copy(source, directory)
