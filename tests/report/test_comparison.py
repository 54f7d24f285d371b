"""Comparisons of runs that are made up, so that every figure is known."""

import copy
import json
import re
import shutil
import subprocess

import pytest

from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.report.comparison import (
    as_json,
    check_equal_budget,
    check_labels,
    differences,
    read_contender,
    unequal_budget,
)
from vje_pyro.report.comparison_page import write_page
from vje_pyro.report.comparison_tables import note, tables
from vje_pyro.report.tables import latex, markdown
from vje_pyro.statistics import SHARE, over_repetitions

CONFIG = {
    "name": "digits",
    "seed": 0,
    "run_dir": "somewhere",
    "data": {"_target_": "vje_pyro.data.Digits", "image_size": None, "root": "here"},
    "views": {"flip": 0.5},
    "loader": {"batch_size": 64, "num_workers": 4},
    "training": {"epochs": 3, "progress": True},
    "guide": {"hidden_features": 512},
    "method": {"_target_": "vje_pyro.models.VJE", "encoder": {"widths": [64, 128]}, "beta": 1.0},
}


def changed(**values):
    config = copy.deepcopy(CONFIG)
    for key, value in values.items():
        node = config
        *groups, last = key.split("__")
        for group in groups:
            node = node[group]
        node[last] = value
    return config


def write_run(folder, seed, accuracy, config=CONFIG, out=(), rate=640.0):
    logs = folder / "logs"
    logs.mkdir(parents=True)
    info = {"config": config | {"seed": seed, "run_dir": str(folder)}, "seed": seed}
    (folder / "run.json").write_text(json.dumps(info))
    (logs / "steps.csv").write_text(f"step,images_per_second\n10,1\n20,{rate}\n30,{rate}\n")
    (logs / "epochs.csv").write_text(
        "epoch,step,time,loss,knn,rankme,embedding_std,peak_memory,alarms\n"
        + "".join(f"{e},{10 * e},{60 * e},1,{e / 10 + seed / 100},{20 + e},1,{512 + seed},\n"
                  for e in (1, 2, 3))
    )  # fmt: skip

    def result(protocol, figures, **dataset):
        bootstrap = "95% bootstrap over test images"
        shown = {n: Figure(v, v - 0.01, v + 0.01, 100, bootstrap) for n, v in figures.items()}
        return Result(protocol, dataset, "VJE", "encoder", shown, seed)

    results = folder / "results"
    result("knn-v1", {"accuracy": accuracy}).write(results / "knn-v1-encoder.json")
    for name in out:
        scores = {"auroc_knn": accuracy, "auroc_minus_elbo": 0.4, "fpr95_knn": 0.3}
        result("ood-v1", scores, out=name).write(results / f"ood-v1-{name}.json")
    return folder


@pytest.fixture
def pair(tmp_path):
    ours = [write_run(tmp_path / f"a{s}", s, 0.8 + s / 10, out=("dtd", "mnist")) for s in (0, 1)]
    theirs = write_run(tmp_path / "b", 0, 0.5, changed(method__beta=2.0), rate=320.0)
    return read_contender("ours & co", ours), read_contender("theirs|b", [theirs])


def test_figures_are_means_over_seeds(pair):
    ours, theirs = pair
    assert ours.seeds == (0, 1)
    assert ours.figures["knn-v1", "accuracy"] == over_repetitions([0.8, 0.9], SHARE)
    assert theirs.figures["knn-v1", "accuracy"].low == pytest.approx(0.49)
    assert ("ood-v1 dtd", "auroc_knn") in ours.figures


def test_the_logs_tell_the_cost(pair):
    ours, theirs = pair
    assert ours.logged["step_ms"].value == pytest.approx(100)
    assert theirs.logged["step_ms"].value == pytest.approx(200)
    assert ours.logged["peak_memory"].value == pytest.approx(512.5)
    assert ours.logged["minutes"].value == pytest.approx(3)
    assert ours.logged["rankme"].value == pytest.approx(23)


def test_curves_are_means_over_seeds(pair):
    curve = pair[0].curves["knn"]
    assert curve.value == pytest.approx([0.105, 0.205, 0.305])
    assert curve.seconds == pytest.approx([60, 120, 180])


def test_only_what_matters_differs(pair):
    assert differences(pair) == {"method.beta": [1.0, 2.0]}
    assert unequal_budget(pair) == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"training__epochs": 4}, "training.epochs"),
        ({"loader__batch_size": 32}, "loader.batch_size"),
        ({"views__flip": 0.0}, "views.flip"),
        ({"data__image_size": 4}, "data.image_size"),
        ({"method__encoder": {"widths": [8]}}, "method.encoder.widths"),
    ],
)
def test_an_unequal_budget_is_refused_or_marked(tmp_path, pair, change, key):
    other = read_contender("other", [write_run(tmp_path / "c", 0, 0.5, changed(**change))])
    contenders = [*pair, other]
    assert unequal_budget(contenders) == [key]
    with pytest.raises(VJEError, match=f"not trained alike: .*{key}.*--force"):
        check_equal_budget(contenders)
    page = write_page(contenders, "Title", tmp_path / "page.html").read_text()
    assert f"Not at equal budget: the methods differ in {key}" in page
    text = markdown(tables(contenders), note(contenders))
    assert "| other † | 50.0 [49.0" in text
    assert "| ours & co | **80.0, 90.0**" in text
    assert f"†: not trained like ours & co; what differs: {key}." in text
    assert r"other \dag{}" in latex(tables(contenders), note(contenders))


def test_an_equal_budget_is_neither_refused_nor_marked(pair):
    check_equal_budget(pair)
    assert "†" not in markdown(tables(pair), note(pair))


def test_markdown(pair):
    text = markdown(tables(pair), note(pair))
    assert "| ours & co | **80.0, 90.0** | 2 |" in text
    assert "| theirs\\|b | 50.0 [49.0, 51.0]\\* | 1 |" in text
    assert "| ours & co | 23, 23 | **100, 100** | 512, 513 | **3.0, 3.0** |" in text
    assert "| theirs\\|b | 23\\* | 200\\* | **512**\\* | **3.0**\\* |" in text
    assert "| method | score | dtd | mnist |" in text
    assert "| ours & co | minus elbo | 0.400, 0.400 | 0.400, 0.400 |" in text
    chosen, every = text.split("\n## ")[2:4]
    assert chosen.startswith("Detection of images of other data sets: AUROC of the chosen score")
    assert "minus elbo" not in chosen
    assert "| ours & co | knn | **0.800, 0.900**" in every


def test_latex_is_typeset(pair, tmp_path):
    text = latex(tables(pair), note(pair))
    assert r"ours \& co & \textbf{80.0, 90.0}" in text
    assert r"kNN [\%]" in text
    if shutil.which("pdflatex") is None:
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
        return
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + text
    (tmp_path / "page.tex").write_text(page + r"\end{document}")
    command = ["pdflatex", "-halt-on-error", "page.tex"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0


def test_the_page_shows_everything_and_needs_nothing(pair, tmp_path):
    page = write_page(pair, "Methods <b>", tmp_path / "page.html").read_text()
    assert "Methods &lt;b&gt;" in page
    assert "ours &amp; co" in page
    # kNN, four costs, detection, three curves
    assert page.count('<div class="chart"') == 9
    assert "✓ Same images, views, encoder" in page
    assert "<code>method.beta</code>" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#|data:|https://vega)', markup)


def test_hostile_labels_and_names_stay_text(tmp_path):
    hostile = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
    run = write_run(tmp_path / "a", 0, 0.8, changed(method__beta=hostile), out=("dtd",))
    path = run / "results" / "ood-v1-dtd.json"
    result = json.loads(path.read_text())
    result["dataset"]["out"] = hostile
    path.write_text(json.dumps(result))
    other = write_run(tmp_path / "b", 0, 0.5)
    contenders = [read_contender(hostile, [run]), read_contender("other", [other])]
    page = write_page(contenders, hostile, tmp_path / "page.html").read_text()
    data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert any(hostile in text for chart in map(json.loads, data) for text in texts(chart))
    markup = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert "alert" in markup
    assert not re.search(r"<script|<img", markup)


def texts(node):
    """All texts of a nested value."""
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from texts(child)
    elif isinstance(node, str):
        yield node


def test_json_holds_every_figure(pair):
    content = json.loads(json.dumps(as_json(pair)))
    ours = content["contenders"][0]
    assert ours["figures"]["knn-v1 accuracy"]["value"] == pytest.approx(0.85)
    assert ours["figures"]["ood-v1 mnist fpr95_knn"]["value"] == pytest.approx(0.3)
    assert ours["logged"]["step_ms"]["interval"] == "the points of 2 seeds"


def test_runs_that_are_no_repetitions_are_refused(tmp_path):
    runs = [write_run(tmp_path / "a", 0, 0.5),
            write_run(tmp_path / "b", 1, 0.5, changed(method__beta=2.0))]  # fmt: skip
    with pytest.raises(VJEError, match=r"differ in \['method.beta'\]"):
        read_contender("mixed", runs)


def test_a_protocol_that_some_seeds_lack_is_refused(tmp_path):
    runs = [write_run(tmp_path / "a", 0, 0.5, out=("dtd",)), write_run(tmp_path / "b", 1, 0.5)]
    with pytest.raises(VJEError, match="ood-v1 dtd was measured on 1 of 2 runs"):
        read_contender("partial", runs)


def test_a_label_twice_is_refused(pair):
    with pytest.raises(VJEError, match="repeat"):
        check_labels([pair[0], pair[0]])


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no run at"):
        read_contender("nothing", [tmp_path])


def test_a_damaged_result_is_refused(tmp_path):
    run = write_run(tmp_path / "a", 0, 0.5)
    (run / "results" / "knn-v1-encoder.json").write_text("{")
    with pytest.raises(VJEError, match="not a JSON file"):
        read_contender("damaged", [run])
