"""Calls through the gateway with the Python SDK. Prints one line of JSON for each case."""

import json
import sys
import time

import anthropic

url, key = sys.argv[1:]
MODEL = "claude-opus-5-5"
ASK = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "say hi"}]}


def client(user, **more):
    return anthropic.Anthropic(api_key=key, base_url=url, default_headers={"x-user-id": user}, **more)


def create(one):
    message = one.messages.create(**ASK)
    return {"text": message.content[0].text, "output": message.usage.output_tokens, "request_id": message._request_id}


def stream(one):
    with one.messages.stream(**ASK) as answer:
        words = "".join(answer.text_stream)
        return {"text": words, "output": answer.get_final_message().usage.output_tokens, "request_id": answer.request_id}


def count(one):
    return {"tokens": one.messages.count_tokens(model=MODEL, messages=ASK["messages"]).input_tokens}


def models(one):
    return {"models": [model.id for model in one.models.list()]}


def batch(one):
    return {"batch": one.messages.batches.create(requests=[{"custom_id": "a", "params": ASK}]).id}


def run(name, user, do, **more):
    told, begun = {"case": name}, time.monotonic()
    try:
        told |= do(client(user, **more))
    except Exception as error:
        told |= {"error": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}
    told["seconds"] = time.monotonic() - begun
    print(json.dumps(told), flush=True)


run("create", "ana", create)
run("stream", "ana", stream)
run("count", "ana", count)
run("models", "ana", models)
run("batch", "ana", batch)
run("blocked", "blocked", create)
run("blocked stream", "blocked", stream)
run("spent before", "broke", create)
run("spent", "broke", create)
run("spent count", "broke", count)
run("hasty before", "hasty", create)
run("hasty", "hasty", create, max_retries=0)
run("late", "late", create, max_retries=0)
run("impatient", "impatient", create, max_retries=0, timeout=0.5)
run("flaky", "flaky", create)
run("final", "final", create)
run("limited", "limited", stream)
run("cut", "cut", stream)
