"""``python -m harness fit``: anyone's CSV file, as people and as programs read the answer."""

from __future__ import annotations

import json

import pytest

from harness.cli.app import main
from reports.analysis.laws import denominator


def write(tmp_path, text):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    return path


def usl_rows(gamma=500.0, sigma=0.04, kappa=0.001, counts=(1, 2, 4, 8, 16, 32)):
    return "\n".join(f"{ranks},{gamma * ranks / denominator(ranks, sigma, kappa)!r}" for ranks in counts)


def test_json_holds_the_answer_and_nothing_else(tmp_path, capsys):
    path = write(tmp_path, f"ranks,throughput\n{usl_rows()}\n")
    assert main(["fit", str(path), "--json", "--predict", "64,1024"]) == 0
    (curve,) = json.loads(capsys.readouterr().out)["curves"]
    assert (curve["model"], curve["method"]) == ("usl", "log")
    assert curve["gamma"] == pytest.approx(500, rel=1e-6)
    assert curve["sigma"] == pytest.approx(0.04, abs=1e-6)
    assert curve["kappa"] == pytest.approx(0.001, abs=1e-6)
    assert curve["n_peak"] == pytest.approx((0.96 / 0.001) ** 0.5)
    assert curve["limit"] == pytest.approx(500 / 0.04)
    assert [one["ranks"] for one in curve["predictions"]] == [64, 1024]
    assert curve["efficiency"]["1"] == 1
    assert curve["karp_flatt"]["1"] is None
    assert curve["largest_relative_residual"] < 1e-6
    assert set(curve["intervals"]) == set(curve["standard_errors"]) == {"gamma", "sigma", "kappa"}


def test_curves_repeats_and_the_other_name_of_the_column(tmp_path, capsys):
    rows = "a,1,100\na,2,190\nb,1,50\nb,1,52\n\na,4,350\na,8,600\nb,2,90\n"
    path = write(tmp_path, "curve, N, Throughput\n" + rows)
    assert main(["fit", str(path), "--json"]) == 0
    curves = {curve["curve"]: curve for curve in json.loads(capsys.readouterr().out)["curves"]}
    assert list(curves) == ["a", "b"]
    assert curves["b"]["points"][0]["throughput"]["n"] == 2
    assert (curves["a"]["model"], curves["a"]["flags"]) == ("amdahl", [])
    assert curves["a"]["largest_relative_residual"] < 0.01
    assert (curves["b"]["model"], curves["b"]["flags"]) == (None, ["too_few_points"]), "two rank counts are no law"
    assert curves["b"]["efficiency"]["2"] == pytest.approx(0.8825, rel=1e-3)


def test_people_read_a_table(tmp_path, capsys):
    path = write(tmp_path, f"ranks,throughput\n{usl_rows()}\n")
    assert main(["fit", str(path), "--predict", "64"]) == 0
    message = capsys.readouterr().out
    assert "usl by log: γ = 500" in message
    assert "highest at 31 ranks" in message
    assert "predicted, extrapolated" in message
    assert "predicted by USL 9" in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty"),
        ("ranks,throughput\n", ": holds no rows"),
        ("ranks,speed\n1,2\n", ":1: no column 'throughput'; needed are ranks, throughput"),
        ("throughput\n1\n", ":1: no column 'ranks'"),
        ("ranks,throughput\n1,fast\n", ":2: throughput 'fast' is not a number"),
        ("ranks,throughput\n1,5\n2,-3\n", ":3: throughput '-3' is no throughput; give a number above 0"),
        ("ranks,throughput\n1,nan\n", ":2: throughput 'nan' is not a finite number"),
        ("ranks,throughput\n1.5,7\n", ":2: ranks '1.5' is no rank count; give a whole number"),
        ("ranks,throughput\n0,7\n", ":2: ranks '0' is no rank count"),
        ("ranks,throughput\n1,7,8\n", ":2: holds 3 values under 2 column names"),
        ("ranks,throughput\n1e300,7\n", ":2: ranks '1e300' is no rank count; give a whole number from 1 to"),
        ("ranks,throughput\n1,1e308\n", ":2: throughput '1e308' is out of range"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, text, message):
    path = write(tmp_path, text)
    assert main(["fit", str(path)]) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert f"{path}{message}" in output


def test_what_is_not_there_or_not_text(tmp_path, capsys):
    assert main(["fit", str(tmp_path / "none.csv")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00ranks")
    assert main(["fit", str(tmp_path / "x.csv")]) == 2
    assert "x.csv:1: is not UTF-8 text" in capsys.readouterr().err
    path = write(tmp_path, f"ranks,throughput\n{usl_rows()}\n")
    assert main(["fit", str(path), "--model", "usk"]) == 2
    assert "did you mean 'usl'" in capsys.readouterr().err
    assert main(["fit", str(path), "--predict", "8,x"]) == 2
    assert "--predict 8,x" in capsys.readouterr().err


def test_weak_curves_are_told_by_the_file_or_the_flag(tmp_path, capsys):
    path = write(tmp_path, "curve,scaling,ranks,throughput\na,weak,1,10\na,weak,2,18\nb,strong,1,10\nb,strong,2,18\n")
    assert main(["fit", str(path), "--json"]) == 0
    weak, strong = json.loads(capsys.readouterr().out)["curves"]
    # S = N − s(N−1): 1.8 = 2 − s.
    assert weak["gustafson"]["2"] == pytest.approx(0.2)
    assert strong["gustafson"]["2"] is None
    assert main(["fit", str(path), "--json", "--scaling", "weak"]) == 0
    assert all(curve["gustafson"]["2"] == pytest.approx(0.2) for curve in json.loads(capsys.readouterr().out)["curves"])
    assert main(["fit", str(path), "--scaling", "week"]) == 2
    assert "did you mean 'weak'?" in capsys.readouterr().err


def test_a_collective_is_left_out_and_counted(tmp_path, capsys):
    path = write(tmp_path, "unit,ranks,throughput\nsamples,1,10\nsamples,2,18\nbytes,2,100\n")
    assert main(["fit", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {"a collective alone has no speed-up": 1}


def fitted(capsys, *arguments):
    assert main(["fit", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def points(curve):
    return {point["ranks"]: point["throughput"]["value"] for point in curve["points"]}


@pytest.mark.parametrize(
    "text",
    [
        "gpus;seconds\n1;0,8\n2;0,5\n",
        "gpus\tseconds\n1\t0,8\n2\t0,5\n",
        "Nodes,Step_S\n1,0.8\n2,0.5\n",
        'world_size;time_s\n1;"8e-1"\n2;5e-1\n',
    ],
)
def test_seconds_gpus_nodes_and_the_separators_of_other_countries(tmp_path, capsys, text):
    document = fitted(capsys, write(tmp_path, text))
    assert points(document["curves"][0]) == {1: pytest.approx(1.25), 2: pytest.approx(2.0)}
    assert "throughput is 1 ÷ seconds" in document["notes"][0]


def test_under_weak_scaling_each_rank_does_its_share(tmp_path, capsys):
    path = write(tmp_path, "gpus,seconds\n1,0.5\n4,0.625\n")
    assert points(fitted(capsys, path, "--scaling", "weak")["curves"][0]) == {
        1: pytest.approx(2),
        4: pytest.approx(6.4),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpus\tthroughput\n1\t1,234\n", ":2: throughput '1,234' may be a decimal comma or one of thousands"),
        ("gpus;throughput\n1;1.234,5\n", ":2: throughput '1.234,5' has a comma and is no number with a decimal comma"),
        ("gpus,nodes,seconds\n8,1,9\n8,2,5\n", ":1: the rank count is 8 in every row, and 'nodes' varies"),
        (
            "gpus,batch,throughput\n1,32,9\n2,32,17\n1,64,10\n2,64,19\n",
            ":1: column 'batch' looks like a group (32, 64)",
        ),
    ],
)
def test_what_may_mean_two_things_is_refused(tmp_path, capsys, text, said):
    path = write(tmp_path, text)
    assert main(["fit", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}{said}" in err
    assert err.count("\n") == 1


GROUPED = "gpus,batch,trial,loss,throughput\n" + "".join(
    f"{gpus},{batch},{trial},{gpus * trial / 7},{batch * gpus}\n"
    for gpus in (1, 2, 4)
    for batch in (32, 64)
    for trial in (1, 2)
)


def test_a_group_is_chosen_or_separated_and_repeats_are_pooled(tmp_path, capsys):
    path = write(tmp_path, GROUPED)
    chosen = fitted(capsys, path, "--where", "batch=64")
    assert points(chosen["curves"][0]) == pytest.approx({1: 64, 2: 128, 4: 256})
    assert chosen["curves"][0]["points"][0]["throughput"]["n"] == 2
    assert chosen["left_out"] == {"batch is not 64": 6}
    assert chosen["notes"] == ["ignored columns: trial, loss"]
    separated = fitted(capsys, path, "--by", "batch")
    assert [curve["curve"] for curve in separated["curves"]] == ["batch=32", "batch=64"]
    assert main(["fit", str(path), "--by", "bach"]) == 2
    assert "no column 'bach' for --by; did you mean 'batch'?" in capsys.readouterr().err
    assert main(["fit", str(path), "--where", "batch"]) == 2
    assert "--where batch: expected COLUMN=VALUE" in capsys.readouterr().err


def test_numbers_of_a_rank_are_hinted_at_and_multiplied(tmp_path, capsys):
    path = write(tmp_path, "gpus,throughput\n1,100\n2,98\n8,95\n")
    assert "if it is a rank's, give --per-rank" in fitted(capsys, path)["notes"][0]
    multiplied = fitted(capsys, path, "--per-rank")
    assert points(multiplied["curves"][0]) == pytest.approx({1: 100, 2: 196, 8: 760})
    assert multiplied["notes"] == []
