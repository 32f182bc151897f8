# SPDX-License-Identifier: GPL-2.0-only
from toolkit.report import page


def test_values_of_a_template_are_escaped() -> None:
    assert "<b>" not in page.fill("base.html", title="<b>")


def test_a_drawing_in_a_page_has_no_lines_that_only_a_file_needs() -> None:
    assert page.inline('<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg><path/></svg>') == "<svg><path/></svg>"
