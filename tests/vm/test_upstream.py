# SPDX-License-Identifier: GPL-2.0-only
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import drivers, upstream
from vm.paths import CHECKOUT

NAMES = sorted(path.parent.name for path in upstream.FINDINGS.glob("*/finding.toml"))
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")

#: A driver of one line, the mail that changes it, and a variant with the same change.
LINE = "int ring = 1;\n"
CHANGE = """--- a/drivers/net/toy.c
+++ b/drivers/net/toy.c
@@ -1 +1 @@
-int ring = 1;
+int ring = 2;
"""
MAIL = (
    f"From: A B <a@example.org>\nSubject: [PATCH] toy: a larger ring\n\nIt was too small.\n---\n{CHANGE}-- \n"
)
VARIANT = f"SPDX-License-Identifier: GPL-2.0-only\nA larger ring.\n\n{CHANGE}"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> upstream.Finding:
    """A finding of one patch, whose kernel source is in `source`."""
    for path, text in {
        "source/drivers/net/toy.c": LINE,
        "findings/toy/0001-toy.patch": MAIL,
        "drivers/toy/larger.patch": VARIANT,
        "drivers/toy/Kbuild": "obj-m := toy.o\n",
        "drivers/toy/testbed.toml": 'sources = ["drivers/net/toy.c"]\n',
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(drivers, "HERE", tmp_path / "drivers")
    monkeypatch.setattr(upstream, "FINDINGS", tmp_path / "findings")
    return upstream.Finding("toy", "toy", "toy", "larger", "knob")


def test_unknown_finding_is_one_sentence_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match=f"there is no finding e1000; there are {', '.join(NAMES)}"):
        upstream.load("e1000")


def test_finding_with_an_unknown_key_is_refused(toy: upstream.Finding) -> None:
    table = upstream.FINDINGS / toy.name / "finding.toml"
    table.write_text('driver = "toy"\nmachine = "toy"\nvariant = "larger"\nscenario = "knob"\nruns = 3\n')
    with pytest.raises(
        UserError, match="has to have the keys driver, machine, scenario, variant, and no oth"
    ):
        upstream.load("toy")
    table.write_text(table.read_text().replace("runs = 3\n", ""))
    assert upstream.load("toy") == toy
    table.write_text(table.read_text().replace("larger", "smaller"))
    with pytest.raises(UserError, match="toy has no variant smaller"):
        upstream.load("toy")


@pytest.mark.parametrize("name", NAMES)
def test_finding_is_complete(name: str) -> None:
    finding = upstream.load(name)
    plan = upstream.plan(finding, seed=1)
    assert plan.variants == ("stock", finding.variant)
    assert finding.patches
    for patch in finding.patches:
        message, _, diff = patch.read_text().partition("\n---\n")
        assert re.search(r"^Fixes: [0-9a-f]{12} \(\"", message, re.MULTILINE)
        assert message.endswith("Signed-off-by: Name of the sender <sender@example.org>")
        # A tag must not be wrapped.
        lines = [line for line in message.splitlines() if not line.startswith("Fixes:")]
        assert max(map(len, lines)) <= 75
        assert diff
    folder = upstream.FINDINGS / name
    assert (folder / "README.md").is_file()
    assert (folder / "reproduce.sh").stat().st_mode & 0o100


@needs_git
def test_patch_applies_and_is_compared_with_the_variant(toy: upstream.Finding, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    upstream.commit(tmp_path / "source", ["drivers/net/toy.c"], repository)
    upstream.patched(repository, toy)
    assert (repository / "drivers/net/toy.c").read_text() == "int ring = 2;\n"
    assert upstream.git(repository, "log", "-1", "--format=%an: %s") == "A B: toy: a larger ring"
    shutil.rmtree(repository)
    (drivers.HERE / "toy/larger.patch").write_text(VARIANT.replace("ring = 2", "ring = 3"))
    upstream.commit(tmp_path / "source", ["drivers/net/toy.c"], repository)
    with pytest.raises(UserError, match="of toy make another source than the variant larger of toy"):
        upstream.patched(repository, toy)


def test_newest_source_is_that_of_the_last_kernel_that_is_promised() -> None:
    assert upstream.newest().suite == "trixie-backports"


@needs_git
def test_patch_that_does_not_apply_is_one_sentence(toy: upstream.Finding, tmp_path: Path) -> None:
    (tmp_path / "source/drivers/net/toy.c").write_text("int rings;\n")
    upstream.commit(tmp_path / "source", ["drivers/net/toy.c"], tmp_path / "repository")
    with pytest.raises(UserError, match=r"^0001-toy\.patch does not apply: error: patch failed"):
        upstream.apply(tmp_path / "repository", toy.patches[0])
    with pytest.raises(UserError, match="the variant larger of toy does not apply"):
        upstream.tree_of_variant(tmp_path / "repository", toy)


@needs_perl
def test_first_complaint_of_checkpatch_is_passed_on(toy: upstream.Finding, tmp_path: Path) -> None:
    script = tmp_path / "source/scripts/checkpatch.pl"
    script.parent.mkdir()
    script.write_text('print "total: 0 errors, 0 warnings, 0 checks\\n"; exit 0;\n')
    upstream.checkpatch(script.parent.parent, toy.patches)
    script.write_text(
        'print "---\\nx.patch\\n---\\nWARNING: a word\\n#7: \\n+spin\\n\\nCHECK: b\\n"; exit 1;\n'
    )
    with pytest.raises(UserError, match=r"^checkpatch\.pl complains: WARNING: a word #7: \+spin$"):
        upstream.checkpatch(script.parent.parent, toy.patches)
    script.write_text('print STDERR "Must be run from the top\\n"; exit 2;\n')
    with pytest.raises(UserError, match="complains: Must be run from the top"):
        upstream.checkpatch(script.parent.parent, toy.patches)


def test_warnings_are_those_of_the_compiler_and_of_modpost() -> None:
    text = """make: Entering directory '/usr/src/linux-headers'
warning: the compiler differs from the one used to build the kernel
  CC [M]  aoecmd.o
/tmp/aoe/aoecmd.c:12:5: warning: unused variable 'x' [-Wunused-variable]
WARNING: modpost: missing MODULE_DESCRIPTION() in aoe.o
/tmp/aoe/aoecmd.c:14:1: error: expected ';'
x86_64-linux-gnu-gcc-14: fatal error: cannot execute 'cc1'
Skipping BTF generation for aoe.ko due to unavailability of vmlinux
"""
    assert [line.split(":")[-1].strip() for line in upstream.warnings(text)] == [
        "the compiler differs from the one used to build the kernel",
        "unused variable 'x' [-Wunused-variable]",
        "missing MODULE_DESCRIPTION() in aoe.o",
        "expected ';'",
        "cannot execute 'cc1'",
    ]


def test_only_a_warning_that_a_patch_brings_is_new() -> None:
    old = ["aoecmd.c:12:5: warning: unused variable 'x'", "aoecmd.c:90:1: warning: too long"]
    moved = ["aoecmd.c:14:5: warning: unused variable 'x'", "aoecmd.c:92:1: warning: too long"]
    assert upstream.new_warnings(old, moved) == []
    assert upstream.new_warnings(old, []) == []
    second = "aoecmd.c:50:9: warning: unused variable 'x'"
    assert second in upstream.new_warnings(old, [*moved, second])
    assert upstream.new_warnings(old, ["aoeblk.c:14:5: warning: unused variable 'x'"]) != []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_patches_are_clean_on_the_newest_source(name: str) -> None:
    """Takes minutes: the kernel's source is fetched and unpacked once."""
    words = [sys.executable, "-m", "vm", "upstream", name]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert steps == ["source", "git am", "checkpatch.pl --strict", "variant", "make W=1"]
