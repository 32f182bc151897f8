# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.trace import reader


@pytest.fixture(autouse=True)
def chunk_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each batch of these small traces a chunk of its own, which is read again from the file."""
    monkeypatch.setattr(reader, "CHUNK_EVENTS", 0)
    monkeypatch.setattr(reader, "KEPT_EVENTS", 0)
