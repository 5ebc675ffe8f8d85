"""The stand-in answers what a real ComfyUI answered: recorded requests are sent again, the answers compared.

What may differ is named in one place per test: ids, instants, tooltips (left out of the stand-in), lengths of images,
tracebacks, and the texts of tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.support.comfy import (
    CLIENT,
    RECORDED_MODELS,
    Graph,
    changed,
    comfy,
    recorded_events,
    recorded_graph,
    recorded_json,
    recorded_lines,
    saved,
    shape,
    told,
    without,
)

# --- a session on the websocket ----------------------------------------------------------------------------------------


def recorded_run(name: str) -> tuple[Graph, dict[str, Any]]:
    """The graph and the extra data of a prompt, from its history."""
    body = recorded_json(f"http/{name}.json")["body"]
    (entry,) = body.values()
    return entry["prompt"][2], entry["prompt"][3]


#: (transcript, where its graph stands, what the client sent with it, whether it asked for metadata), in recorded order: what
#: is cached, and the numbers of the files, follow from the prompts before.
SESSION: tuple[tuple[str, str | None, dict[str, Any], bool], ...] = (
    ("success_sd15_preview_type1", "history_success_sd15", {"extra_data": {"preview_method": "latent2rgb"}}, False),
    ("cached_rerun_identical", "history_cached_rerun", {}, False),
    ("partly_cached_new_prefix", None, {}, False),
    ("success_flux_preview_type4", "history_success_flux", {"extra_data": {"preview_method": "taesd"}}, True),
    ("success_zimage_client_prompt_id", "history_success_zimage", {"prompt_id": "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"}, False),
    # This id makes the stand-in's arbitrary order of outputs the recorded one.
    (
        "success_preview_node_and_websocket_node",
        "history_preview_node",
        {"prompt_id": "00000000-0000-4000-8000-000000000000"},
        True,
    ),
    ("execution_error_stock_nodes", "job_failed", {}, False),
)


def session_graph(source: str | None) -> Graph:
    if source is None:  # the recorded change: only the prefix of the prompt before
        graph = copy.deepcopy(recorded_run("history_cached_rerun")[0])
        graph["9"]["inputs"]["filename_prefix"] = "other/name"
        return graph
    if source == "job_failed":
        failed: Graph = recorded_json("http/job_failed.json")["body"]["workflow"]["prompt"]
        return failed
    return recorded_run(source)[0]


async def test_a_session_gives_the_recorded_events_in_the_recorded_order() -> None:
    async with comfy(models=RECORDED_MODELS) as server:
        for transcript, source, rest, metadata in SESSION:
            async with server.listen(CLIENT, metadata=metadata) as socket:
                prompt_id = await server.post(session_graph(source), client_id=CLIENT, **rest)
                await socket.until_end_of(prompt_id)
            heard = [told(event) for event in socket.events]
            assert heard == [told(event) for event in recorded_events(transcript)], transcript


async def test_an_interrupted_run_says_what_the_recorded_one_said() -> None:
    graph, _ = recorded_run("history_interrupted")
    recorded = recorded_json("http/history_interrupted.json")["body"]
    (before,) = recorded.values()
    async with comfy(models=RECORDED_MODELS, time_scale=1.0, speed=10.0) as server, server.listen(CLIENT) as socket:
        loader_only = {node_id: graph[node_id] for node_id in ("4",)} | {
            "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}},
            "2": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0], "vae": ["4", 2]}},
            "6": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }
        first = await server.post(loader_only, client_id=CLIENT)  # so that the checkpoint is cached, as it was then
        await socket.until_end_of(first)
        prompt_id = await server.post(graph, client_id=CLIENT)
        await socket.until(lambda event: event["type"] == "progress")
        assert await server.call("POST", "/interrupt", {"prompt_id": prompt_id}) == (200, "")
        interrupted = await socket.until(lambda event: event["type"] == "execution_interrupted")
        await socket.until_end_of(prompt_id)
        entry = (await server.get(f"/history/{prompt_id}"))[prompt_id]
        job = await server.get(f"/api/jobs/{prompt_id}")
    (expected,) = [event for event in recorded_events("interrupt_running") if event["type"] == "execution_interrupted"]
    assert told(interrupted) == told(expected)
    assert shape(entry) == shape(before)
    assert [name for name, _ in entry["status"]["messages"]] == [name for name, _ in before["status"]["messages"]]
    assert job["status"] == "cancelled"
    assert job.keys() == recorded_json("http/job_cancelled.json")["body"].keys()


@pytest.mark.parametrize(
    "name",
    ["history_success_sd15", "history_cached_rerun", "history_success_flux", "history_success_zimage", "history_preview_node"],
)
async def test_history_has_the_recorded_shape(name: str) -> None:
    graph, extra = recorded_run(name)
    (recorded,) = recorded_json(f"http/{name}.json")["body"].values()
    pnginfo = {"extra_pnginfo": extra["extra_pnginfo"]} if "extra_pnginfo" in extra else {}
    kept = {key: extra[key] for key in ("preview_method",) if key in extra} | pnginfo
    async with comfy(models=RECORDED_MODELS) as server:
        entry, _ = await server.run(graph, extra_data=kept)
    entry["prompt"][3]["client_id"] = extra["client_id"]
    assert shape(without(entry, "nodes")) == shape(
        without(recorded, "nodes")
    )  # which nodes were cached depends on what ran before
    assert entry["prompt"][2] == recorded["prompt"][2]
    assert entry["outputs"].keys() == recorded["outputs"].keys()
    assert entry["meta"] == recorded["meta"]


# --- refusals ----------------------------------------------------------------------------------------------------------


def lacking(graph: Graph, node_id: str, name: str) -> Graph:
    copied = copy.deepcopy(graph)
    del copied[node_id]["inputs"][name]
    return copied


def refused_graphs() -> dict[str, object]:
    """The bodies behind the recorded cases, made from the graph that was used for them."""
    base = recorded_graph("sd15_txt2img")
    picture = changed(recorded_graph("sd15_img2img"), "10", image="nope.png")
    unknown = copy.deepcopy(base)
    unknown["3"]["class_type"] = "KSamplerNope"
    nameless = copy.deepcopy(base)
    del nameless["3"]["class_type"]
    return {
        "value_not_in_list: checkpoint missing": changed(base, "4", ckpt_name="missing.safetensors"),
        "missing_node_type: unknown class": unknown,
        "missing_node_type: no class_type": nameless,
        "required_input_missing": lacking(base, "3", "seed"),
        "value_bigger_than_max": changed(base, "5", width=99999),
        "value_smaller_than_min": changed(base, "3", steps=0),
        "invalid_input_type: text for int": changed(base, "3", steps="many"),
        "return_type_mismatch: wrong link type": changed(base, "3", model=["4", 1]),
        "bad_linked_input: link to missing node": changed(base, "3", model=["404", 0]),
        "bad_linked_input: malformed link": changed(base, "3", model=["4"]),
        "prompt_no_outputs": {node_id: node for node_id, node in base.items() if node_id != "9"},
        "custom_validation_failed: image not uploaded": picture,
        "dependency_cycle": changed(base, "8", samples=["8", 0]),
        "unknown sampler": changed(base, "3", sampler_name="nope"),
        "empty prompt": {},
        "UI-format workflow instead of API format": {"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4},
        "prompt is a list": [base],
    }


OTHER_BODIES: dict[str, object] = {
    "no_prompt": {"client_id": CLIENT},
    "invalid_prompt_id": {"prompt": recorded_graph("sd15_txt2img"), "prompt_id": "not-a-uuid"},
    "invalid_prompt_id upper case": {
        "prompt": recorded_graph("sd15_txt2img"),
        "prompt_id": "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE",
    },
}


def refusals() -> Iterator[Any]:
    for line in recorded_lines("http/post_prompt_rejections.jsonl"):
        if line["status"] != 200:
            yield pytest.param(line, id=line["case"])


@pytest.mark.parametrize("line", list(refusals()))
async def test_a_bad_prompt_is_refused_with_the_recorded_body(line: dict[str, Any]) -> None:
    case = line["case"]
    async with comfy(models=RECORDED_MODELS) as server:
        if case == "not JSON":
            async with server.http.post(
                f"{server.url}/prompt", data=b"{nope", headers={"Content-Type": "application/json"}
            ) as answer:
                status, body = answer.status, await answer.text()
        else:
            status, body = await server.call("POST", "/prompt", OTHER_BODIES.get(case) or {"prompt": refused_graphs()[case]})
    assert status == line["status"]
    ignored = ("tooltip", "traceback")
    assert without(body, *ignored) == without(line["response"], *ignored)


def accepted() -> dict[str, Graph]:
    base = recorded_graph("sd15_txt2img")
    half = copy.deepcopy(base) | {
        "90": {"class_type": "LoadImage", "inputs": {"image": "nope.png"}},
        "91": {"class_type": "SaveImage", "inputs": {"images": ["90", 0], "filename_prefix": "x"}},
    }
    return {
        "size not a multiple of 8 (250x250): accepted": changed(base, "5", width=250, height=250),
        'numbers sent as strings ("2"): accepted': changed(base, "3", steps="2"),
        "unknown extra input name: accepted, ignored": changed(base, "3", nonsense=1),
        "one output valid, one not: 200 AND node_errors": half,
    }


@pytest.mark.parametrize("line", [line for line in recorded_lines("http/post_prompt_rejections.jsonl") if line["status"] == 200])
async def test_what_looks_bad_but_was_accepted_is_accepted(line: dict[str, Any]) -> None:
    async with comfy(models=RECORDED_MODELS) as server, server.listen(CLIENT) as socket:
        status, body = await server.call("POST", "/prompt", {"prompt": accepted()[line["case"]], "client_id": CLIENT})
        assert status == 200
        assert shape(body) == shape(line["response"])
        assert body["node_errors"] == line["response"]["node_errors"]
        await socket.until_end_of(body["prompt_id"])
        entry = (await server.get(f"/history/{body['prompt_id']}"))[body["prompt_id"]]
        picture = Image.open(BytesIO(await server.image(saved(entry)[0])))
    assert entry["status"]["status_str"] == "success"
    assert picture.size == ((248, 248) if "250" in line["case"] else (256, 256))


async def test_odd_values_around_a_prompt_are_treated_as_recorded() -> None:
    base = recorded_graph("sd15_txt2img")
    async with comfy(models=RECORDED_MODELS) as server:
        for case in recorded_json("odds_and_ends.json")["odd_values"]["cases"]:
            odd = {name: value for name, value in case.items() if name != "status"}
            status, _ = await server.call("POST", "/prompt", {"prompt": base, **odd})
            assert status == case["status"], odd
        await server.wait_for("/prompt", lambda body: body["exec_info"]["queue_remaining"] == 0)


# --- what the server has -----------------------------------------------------------------------------------------------


async def test_every_node_class_is_described_as_recorded() -> None:
    recorded = recorded_json("http/object_info_selected.json")
    left_out = {"CreateVideo", "SaveVideo", "SaveAnimatedWEBP", "PreviewAny", "LoadImageOutput"}
    names = {"..%2F..%2Fevil.png": b"x", "notes.png": b"x"}
    ignored = ("tooltip", "description", "search_aliases", "output_tooltips")
    async with comfy(models=RECORDED_MODELS, pack="none") as server:
        for name, content in names.items():
            (server.sandbox.inputs / name).write_bytes(content)
        served = await server.get("/object_info")
        alone = await server.get("/object_info/KSampler")
    assert recorded.keys() - served.keys() == left_out
    for name in recorded.keys() - left_out:
        expected = without(recorded[name], *ignored)
        if name in ("LoadImage", "LoadImageMask"):
            expected["input"]["required"]["image"][0] = sorted(names)
        assert without(served[name], *ignored) == expected, name
        assert served[name].keys() == recorded[name].keys()
    assert without(alone, *ignored) == without(recorded_json("http/object_info_KSampler.json")["body"], *ignored)


IDLE_ANSWERS = (
    "embeddings", "extensions", "features", "history_empty", "history_unknown", "job_unknown", "jobs_bad_status", "jobs_empty",
    "models_checkpoints", "models_diffusion_models", "models_loras", "models_unknown", "object_info_unknown", "prompt_get",
    "queue_empty",
)  # fmt: skip


@pytest.mark.parametrize("name", IDLE_ANSWERS)
async def test_an_idle_server_answers_exactly_as_recorded(name: str) -> None:
    recorded = recorded_json(f"http/{name}.json")
    method, path = recorded["request"].split(" ", 1)
    async with comfy(models=RECORDED_MODELS) as server:
        status, body = await server.call(method, path)
    assert (status, body) == (recorded["status"], recorded["body"])


async def test_the_list_of_folders_is_the_recorded_one_and_the_two_of_gguf() -> None:
    async with comfy() as server:
        assert await server.get("/models") == [*recorded_json("http/models.json")["body"], "unet_gguf", "clip_gguf"]


async def test_system_stats_have_the_recorded_shape() -> None:
    recorded = recorded_json("http/system_stats.json")["body"]
    async with comfy() as server:
        served = await server.get("/system_stats")
    assert served["system"].keys() == recorded["system"].keys()
    assert served["system"]["comfyui_version"] == recorded["system"]["comfyui_version"]
    assert served["devices"][0].keys() == recorded["devices"][0].keys()


async def test_queue_and_jobs_of_a_busy_server_have_the_recorded_shapes_and_order() -> None:
    base = recorded_graph("sd15_txt2img")
    async with comfy(models=RECORDED_MODELS, time_scale=1.0, speed=20.0) as server, server.listen(CLIENT) as socket:
        await server.post(changed(base, "3", steps=10_000), client_id=CLIENT)
        await socket.until(lambda event: event["type"] == "progress")
        places: tuple[dict[str, Any], ...] = ({}, {}, {"front": True}, {"number": -5.5})
        for index, place in enumerate(places):
            await server.post(changed(base, "3", seed=index), client_id=CLIENT, **place)
        queue, jobs, count = await server.get("/queue"), await server.get("/api/jobs"), await server.get("/prompt")
        running, pending = jobs["jobs"][-1], jobs["jobs"][0]
        one = await server.get(f"/api/jobs/{queue['queue_running'][0][1]}")
        waiting = await server.get(f"/api/jobs/{queue['queue_pending'][0][1]}")
    recorded = recorded_json("http/queue_running_and_pending.json")["body"]
    assert shape(queue) == shape(recorded)
    assert [entry[0] for entry in queue["queue_pending"]] == [-5.5, -3, 1, 2]  # the heap as it lies; the next one first
    assert count == recorded_json("http/prompt_get_busy.json")["body"]
    assert jobs["pagination"].keys() == recorded_json("http/jobs_running_and_pending.json")["body"]["pagination"].keys()
    assert (running["status"], pending["status"]) == ("in_progress", "pending")
    assert shape(one) == shape(recorded_json("http/job_in_progress.json")["body"])
    assert shape(waiting) == shape(recorded_json("http/job_pending.json")["body"])


async def test_finished_jobs_have_the_recorded_shapes() -> None:
    graph, extra = recorded_run("history_success_zimage")
    failing = recorded_json("http/job_failed.json")["body"]
    async with comfy(models=RECORDED_MODELS) as server:
        entry, _ = await server.run(graph, extra_data={"extra_pnginfo": extra["extra_pnginfo"]})
        completed = await server.get(f"/api/jobs/{entry['prompt'][1]}")
        wrong, _ = await server.run(failing["workflow"]["prompt"])
        failed = await server.get(f"/api/jobs/{wrong['prompt'][1]}")
        page = await server.get("/api/jobs?status=completed,failed&limit=1&sort_by=execution_duration")
        status, body = await server.call("POST", "/api/jobs/cancel", {"job_ids": ["not-a-uuid"]})
    recorded = recorded_json("http/job_completed.json")["body"]
    completed["workflow"]["prompt"] = recorded["workflow"]["prompt"]
    assert shape(without(completed, "nodes")) == shape(without(recorded, "nodes"))
    assert failed.keys() == failing.keys()
    assert failed["execution_error"].keys() == failing["execution_error"].keys()
    assert failed["execution_error"]["exception_message"] == failing["execution_error"]["exception_message"]
    assert page["pagination"] == {"offset": 0, "limit": 1, "total": 2, "has_more": True}
    recorded_cancel = recorded_json("http/jobs_cancel_bad_id.json")
    assert (status, body) == (recorded_cancel["status"], recorded_cancel["body"])
