"""The page of a study, from its stored results."""

import re

from studies import ROOT
from studies.page import write
from studies.store import Store


def test_the_page_of_methods_names_every_variant_that_has_an_accuracy(tmp_path):
    store = Store(ROOT / "docs" / "results")
    page = write(store, "methods", "Eleven methods", tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    variants = {r.variant for r in store.read("methods") if r.result.protocol == "knn-v1"}
    assert variants <= set(re.findall(r'<th scope="row">([\w-]+)</th>', text))
    assert "<h1>Eleven methods</h1>" in text
