# SPDX-License-Identifier: GPL-2.0-only
"""Recipe and manifest in docs/container fit Kubernetes, the command line, and each other."""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import Run
from toolkit.capture.compiled import DIRECTORY as PROGRAMS
from toolkit.commands.record import DIRECTORY

CONTAINER = Path(__file__).parent.parent / "docs" / "container"


def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONTAINER / "daemonset.yaml").read_text())
    return found


def _pod() -> dict[str, Any]:
    pod: dict[str, Any] = _manifest()["spec"]["template"]["spec"]
    return pod


def _recipe(word: str) -> list[str]:
    """Return what an instruction of the recipe has as its JSON list."""
    (found,) = re.findall(rf"^{word} (\[.+\])$", (CONTAINER / "Containerfile").read_text(), re.MULTILINE)
    words: list[str] = json.loads(found)
    return words


def test_manifest_has_the_shape_of_kubernetes() -> None:
    kubernetes_validate.validate(_manifest(), kubernetes_validate.latest_version(), strict=True)


def test_manifest_of_another_shape_is_refused() -> None:
    wrong = _manifest()
    wrong["spec"]["template"]["spec"]["hostNetworks"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_recorder_takes_the_words_of_manifest_and_recipe(run: Run) -> None:
    (container,) = _pod()["containers"]
    for words in (container["args"], _recipe("CMD")):
        status, said, _ = run(*words, "--check-config")
        assert (status, said.strip()) == (0, "the command line: nothing is wrong.")


def test_pod_sees_the_node_and_keeps_on_it_what_the_recorder_keeps() -> None:
    pod = _pod()
    (container,) = pod["containers"]
    assert pod["hostNetwork"] and pod["hostPID"] and container["securityContext"]["privileged"]
    there = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: there[mount["name"]] for mount in container["volumeMounts"]}
    kept = {str(DIRECTORY), str(PROGRAMS)}
    assert set(mounts) == {*kept, "/sys/kernel/tracing"}
    assert all(path == place for path, place in mounts.items())
    assert set(_recipe("VOLUME")) == kept


def test_selector_finds_its_pods() -> None:
    spec = _manifest()["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
