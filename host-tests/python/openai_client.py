"""The official `openai` package as a client of the whole stack: Envoy, filter, backend, models.

Runs every function named `test_*` against FARTHING_URL and prints `N passed, M failed`.
"""

import inspect
import os
import sys
import time
import traceback

import openai

URL = os.environ["FARTHING_URL"]
SMALL = "smollm2-135m-instruct"
LARGE = "qwen2.5-coder-0.5b-instruct"
EMBEDDINGS = "all-MiniLM-L6-v2"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def client(key="client-tests"):
    """A client that does not repeat failed requests: the tests look at each answer."""
    return openai.OpenAI(base_url=URL + "/v1", api_key=key, max_retries=0, timeout=120)


def expect_error(kind, status, code, param, call):
    """Asserts that `call` raises `kind`, and that the error says what the API promises."""
    try:
        call()
    except kind as error:
        assert error.status_code == status, error.status_code
        assert error.code == code, error.code
        assert param is None or error.param == param, error.param
        assert error.body["message"], error.body
        assert error.body["type"], error.body
        return error
    raise AssertionError(f"no {kind.__name__}")


def test_models_are_listed_with_chat_models_first():
    ids = [model.id for model in client().models.list()]
    assert ids[:2] == sorted(ids[:2], key=[SMALL, LARGE].index), ids
    assert set(ids) >= {SMALL, LARGE, "auto", EMBEDDINGS}, ids
    assert ids.index(EMBEDDINGS) > ids.index("auto") > 1, ids


def test_chat():
    answer = client().chat.completions.create(
        model=SMALL, messages=QUESTION, max_tokens=16, temperature=0
    )
    choice = answer.choices[0]
    assert answer.object == "chat.completion"
    assert choice.message.role == "assistant" and choice.message.content.strip()
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert 0 < usage.completion_tokens <= 16
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_virtual_model_is_resolved():
    answer = client().chat.completions.with_raw_response.create(
        model="auto", messages=QUESTION, max_tokens=8, temperature=0
    )
    assert answer.headers["x-farthing-model"] in (SMALL, LARGE)
    assert answer.parse().choices[0].message.content.strip()


def test_max_tokens_ends_an_answer():
    answer = client().chat.completions.create(
        model=SMALL,
        messages=[{"role": "user", "content": "Write a long story about a fox."}],
        max_tokens=4,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


def test_stop_strings_are_not_part_of_the_answer():
    answer = client().completions.create(
        model=LARGE, prompt="1, 2, 3, 4,", max_tokens=24, temperature=0, stop=["7"]
    )
    assert "7" not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_stream_is_the_same_answer_in_pieces():
    ask = {"model": SMALL, "max_tokens": 16, "temperature": 0}
    words = [{"role": "user", "content": "Tell me about the moon."}]
    plain = client("plain").chat.completions.create(messages=words, **ask)
    stream = client("streamed").chat.completions.create(
        messages=words, stream=True, stream_options={"include_usage": True}, **ask
    )
    text, reason, usage = "", None, None
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert text == plain.choices[0].message.content
    assert reason == plain.choices[0].finish_reason
    assert usage.completion_tokens == plain.usage.completion_tokens
    assert usage.prompt_tokens == plain.usage.prompt_tokens


def test_repeats_are_hits_streamed_or_not():
    ask = {"model": SMALL, "max_tokens": 12, "temperature": 0}
    words = [{"role": "user", "content": "Name a planet, please."}]
    create = client("hits").chat.completions.with_raw_response.create
    first = create(messages=words, **ask)
    second = create(messages=words, **ask)
    assert first.headers["x-farthing-source"] == "model"
    assert second.headers["x-farthing-source"] == "edge-cache"
    assert float(second.headers["x-farthing-cost-usd"]) == 0
    assert float(second.headers["x-farthing-saved-usd"]) > 0
    expected = first.parse().choices[0].message.content
    assert second.parse().choices[0].message.content == expected
    stream = client("hits").chat.completions.create(messages=words, stream=True, **ask)
    chunks = [choice for chunk in stream for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in chunks) == expected
    assert chunks[-1].finish_reason == first.parse().choices[0].finish_reason
    stranger = client("not-hits").chat.completions.with_raw_response.create(messages=words, **ask)
    assert stranger.headers["x-farthing-source"] == "model"


def test_n_choices():
    answer = client().chat.completions.create(
        model=SMALL, messages=QUESTION, max_tokens=6, temperature=0.9, seed=1, n=3
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.finish_reason for choice in answer.choices)


def test_a_seed_repeats_a_sample():
    def sample(seed):
        answer = client(f"seed-{time.time_ns()}").chat.completions.create(
            model=SMALL, messages=QUESTION, max_tokens=12, temperature=1.0, seed=seed
        )
        return answer.choices[0].message.content

    assert sample(11) == sample(11)


def test_chat_logprobs():
    answer = client().chat.completions.create(
        model=SMALL, messages=QUESTION, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert entry.token == entry.top_logprobs[0].token
        assert bytes(entry.bytes).decode(errors="replace") == entry.token


def test_completions_and_their_logprobs():
    answer = client().completions.create(
        model=LARGE, prompt="def add(a, b):\n", max_tokens=6, temperature=0, logprobs=2
    )
    choice = answer.choices[0]
    assert answer.object == "text_completion"
    assert choice.text.strip()
    assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) > 0


def test_completions_stream():
    ask = {"model": LARGE, "prompt": "fn main() {", "max_tokens": 8, "temperature": 0}
    plain = client("plain").completions.create(**ask)
    stream = client("streamed").completions.create(stream=True, **ask)
    text = "".join(choice.text for chunk in stream for choice in chunk.choices)
    assert text == plain.choices[0].text


def test_several_prompts_in_one_completion():
    answer = client().completions.create(
        model=SMALL, prompt=["One,", "Red,"], max_tokens=4, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_embeddings():
    texts = ["a small harbour", "a little port", "integer overflow"]
    answer = client().embeddings.create(model=EMBEDDINGS, input=texts)
    vectors = [item.embedding for item in answer.data]
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {384}

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b))

    assert abs(cosine(vectors[0], vectors[0]) - 1) < 1e-3
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.2
    floats = client().embeddings.create(
        model=EMBEDDINGS, input=texts[0], encoding_format="float"
    )
    assert max(abs(a - b) for a, b in zip(floats.data[0].embedding, vectors[0])) < 1e-4


def test_bad_requests_name_the_field():
    create = client().chat.completions.create
    bad = [
        ({"messages": QUESTION, "max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"messages": QUESTION, "temperature": "hot"}, "invalid_type", "temperature"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "pirate", "content": "Arr"}]}, "invalid_value", "messages[0].role"),
    ]
    for fields, code, param in bad:
        expect_error(
            openai.BadRequestError, 400, code, param, lambda: create(model=SMALL, **fields)
        )


def test_an_unknown_model_is_not_found():
    call = lambda: client().chat.completions.create(model="gpt-17", messages=QUESTION)
    expect_error(openai.NotFoundError, 404, "model_not_found", "model", call)


def test_a_prompt_beyond_the_context_is_refused():
    words = [{"role": "user", "content": "word " * 40_000}]
    call = lambda: client().chat.completions.create(model=SMALL, messages=words, max_tokens=4)
    expect_error(openai.BadRequestError, 400, "context_length_exceeded", None, call)


def test_an_exhausted_budget_is_a_rate_limit():
    limited = os.environ.get("FARTHING_LIMITED_KEY")
    assert limited, "the stack must be started with a tenant that may spend nothing"
    call = lambda: client(limited).chat.completions.create(
        model=LARGE, messages=QUESTION, max_tokens=64
    )
    error = expect_error(openai.RateLimitError, 429, "insufficient_quota", None, call)
    assert int(error.response.headers["retry-after"]) > 0


def main():
    passed = failed = 0
    tests = [
        (name, test)
        for name, test in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
        if name.startswith("test_")
    ]
    for name, test in tests:
        try:
            test()
        except Exception:
            failed += 1
            print(f"{name} ... FAILED", flush=True)
            traceback.print_exc(file=sys.stdout)
        else:
            passed += 1
            print(f"{name} ... ok", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
