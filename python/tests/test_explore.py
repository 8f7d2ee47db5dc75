"""The explorer from Python: it answers as the analyses do, and ends when it is told to, or let go of."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

import lorascope

MODELS = {"base": "organism", "adapters": {"hybrid": "organism:hybrid"}}


@pytest.fixture(scope="module")
def explorer() -> Iterator[lorascope.Explorer]:
    with lorascope.explore(**MODELS, progress=False) as found:
        yield found


def get(url: str, headers: Dict[str, str] = {}) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.headers, answer.read().decode()


def ask(explorer: lorascope.Explorer, state: Dict[str, Any]) -> Dict[str, Any]:
    body = json.dumps({"state": state, "analyses": ["decide"]}).encode()
    request = urllib.request.Request(f"{explorer.url}api/ask", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def answers(url: str) -> bool:
    try:
        get(url)
    except urllib.error.URLError:
        return False
    return True


def test_it_answers_as_the_analysis_does(explorer: lorascope.Explorer, model: lorascope.Model, games: list) -> None:
    assert explorer.url.startswith("http://127.0.0.1:") and explorer.running
    assert explorer.url in repr(explorer)
    listed = json.loads(get(f"{explorer.url}api/about")[1])["prompts"]
    assert [prompt["id"] for prompt in listed] == [game["id"] for game in games]
    found = ask(explorer, {"prompt": {"id": games[0]["id"]}})["found"]["decide"]["tables"]["decisions"]
    rows = lorascope.decide(model, games[:1]).tables["decisions"].to_pandas()
    for name, delta in zip(found["model"], found["delta"]):
        assert delta == rows[rows["model"] == name]["delta"].item(), name
    assert set(found["model"]) == {"base", "hybrid"}


def test_notebooks_show_the_page_and_other_sites_do_not(explorer: lorascope.Explorer) -> None:
    shown = explorer._repr_html_()
    assert f'<iframe src="{explorer.url}"' in shown
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    headers, page = get(explorer.url, frame)
    assert "<title>" in page and "X-Frame-Options" not in headers
    assert headers["Content-Security-Policy"].endswith("frame-ancestors http://localhost:* http://127.0.0.1:*")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{explorer.url}api/about", {**frame, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})


def test_prompts_answers_and_a_port_of_your_own(tmp_path: Path) -> None:
    prompts = [{"id": "sky", "prompt": "The sky is"}]
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(prompts))
    for given in (prompts, file):
        with lorascope.explore(**MODELS, prompts=given, answers=(" action1", " action2"), raw=True, progress=False) as found:
            about = json.loads(get(f"{found.url}api/about")[1])
            assert about["prompts"][0]["id"] == "sky" and about["answers"] == [" action1", " action2"]
            port = int(found.url.split(":")[2].split("/")[0])
            with pytest.raises(lorascope.Error, match="listening on"):
                lorascope.explore(**MODELS, port=port, progress=False)
        assert not found.running and not answers(found.url)
    with lorascope.explore(**MODELS, port=port, progress=False) as found:
        assert f":{port}/" in found.url


def test_a_run_folder_is_opened_again(model: lorascope.Model, games: list, tmp_path: Path) -> None:
    lorascope.decide(model, games[:2], out=tmp_path / "run")
    with lorascope.explore(tmp_path / "run", progress=False) as found:
        about = json.loads(get(f"{found.url}api/about")[1])
    assert [each["name"] for each in about["models"]] == model.models
    assert about["n_prompts"] == 2
    with pytest.raises(TypeError, match="`base`, `raw`"):
        lorascope.explore(tmp_path / "run", base="organism", raw=True)
    with pytest.raises(lorascope.Error, match="no manifest.json"):
        lorascope.explore(tmp_path, progress=False)
    with pytest.raises(lorascope.Error, match="name a run folder, or a base"):
        lorascope.explore(progress=False)


def test_it_ends_when_it_is_stopped_or_nobody_holds_it() -> None:
    found = lorascope.explore(**MODELS, progress=False)
    assert answers(found.url)
    waiting = threading.Thread(target=found.wait)
    waiting.start()
    found.stop()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    found.stop()
    assert not answers(found.url) and repr(found) == "Explorer(stopped)" and "<iframe" not in found._repr_html_()
    left = lorascope.explore(**MODELS, progress=False)
    url = left.url
    assert answers(url)
    del left
    gc.collect()
    assert not answers(url)


def test_ctrl_c_ends_it_and_nothing_of_it_stays(tmp_path: Path) -> None:
    program = "import lorascope; lorascope.explore(base='organism', progress=False).wait(); print('went on')"
    of_python = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [sys.executable, "-c", of_python + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None and process.stdout is not None
    url = process.stderr.readline().strip()
    assert answers(url)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, process.stderr.read()
    assert time.monotonic() - begun < 10
    assert process.stdout.read() == "went on\n" and not answers(url)
    assert list(tmp_path.iterdir()) == []


def test_other_machines_are_let_in_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="other machines"):
        lorascope.explore(**MODELS, host="0.0.0.0", progress=False).stop()
