"""The table of campaigns."""

import json

from campaigns_table import campaigns_table


def test_a_campaign_is_a_row_with_all_its_counts(tmp_path):
    found = {"name": "kills", "seed": 3, "cases": 1200, "lost": 0, "random": 80, "commit": "a" * 40}
    (tmp_path / "kills.json").write_text(json.dumps(found))
    table = campaigns_table(tmp_path).splitlines()
    assert table[2] == "| kills | 1,200 | lost 0, random 80 | 3 | aaaaaaa |"
    assert len(table) == 3
