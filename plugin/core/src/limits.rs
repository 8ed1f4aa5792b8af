//! Every limit of the project in one place. A queue, buffer, table or loop that is not bounded by a
//! name in this file is a defect. Units come last in the names.

// The wire: requests, answers and streams.

/// Largest request body that the filter and the backend read: a 100k-token chat is about 400 KiB.
pub const REQUEST_BODY_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of a request's JSON.
pub const JSON_DEPTH_MAX: usize = 64;
/// Messages in one chat request.
pub const MESSAGES_MAX: usize = 2_048;
/// Prompts in one completions request.
pub const PROMPTS_MAX: usize = 64;
/// Choices asked for with `n`.
pub const CHOICES_MAX: u8 = 8;
/// Stop strings in one request.
pub const STOP_STRINGS_MAX: usize = 4;
/// Bytes of one stop string.
pub const STOP_STRING_BYTES_MAX: usize = 64;
/// Bytes of a model name.
pub const MODEL_NAME_BYTES_MAX: usize = 128;
/// Largest `max_tokens` that is not absurd.
pub const MAX_TOKENS_MAX: u32 = 1 << 20;
/// `top_logprobs` of a chat request (OpenAI's own limit).
pub const TOP_LOGPROBS_MAX: u8 = 20;
/// `logprobs` of a completions request (OpenAI's own limit).
pub const COMPLETION_LOGPROBS_MAX: u8 = 5;
/// One server-sent event.
pub const SSE_EVENT_BYTES_MAX: usize = 256 << 10;
/// Inputs of one embeddings request.
pub const EMBEDDING_INPUTS_MAX: usize = 256;
/// Values (of any type, at any depth) in one JSON document: bounds the tree that a body of
/// `REQUEST_BODY_BYTES_MAX` can grow into, since `[0,0,…]` costs 32 bytes a value.
pub const JSON_VALUES_MAX: usize = 1 << 17;
/// Characters of a client's own word (a key, a role) that an error message repeats.
pub const ERROR_ECHO_CHARS_MAX: usize = 48;
/// Images in one request.
pub const IMAGES_MAX: u32 = 100;
/// Tokens set aside for one image: the most that Claude's models spend on one of the largest size
/// that they look at (docs.anthropic.com/en/docs/build-with-claude/vision), and more than what a
/// high-detail image costs by OpenAI's tiles (1,445) or patches (3,779). Settled from the usage.
pub const IMAGE_TOKENS_MAX: u64 = 4_784;
/// Content parts of one message.
pub const CONTENT_PARTS_MAX: usize = 1_024;
/// Tools or functions offered in one request, and tool calls in one message.
pub const TOOLS_MAX: usize = 128;
/// Largest `top_k` that is not absurd: beyond any vocabulary.
pub const TOP_K_MAX: u32 = 1 << 20;
/// Largest embedding `dimensions` that is not absurd.
pub const EMBEDDING_DIMENSIONS_MAX: u32 = 1 << 14;
/// Bytes that a streamed answer may add up to and still be rebuilt for the cache.
pub const STREAM_COLLECT_BYTES_MAX: usize = 256 << 10;
/// Bytes of text in one event of a replayed stream: several events, as a client expects.
pub const REPLAY_EVENT_TEXT_BYTES: usize = 256;
/// Bytes of a `usage` object found at the end of an answer; OpenAI's has about 400.
pub const USAGE_BYTES_MAX: usize = 4 << 10;
/// Choices of one answer that is kept: `n` for each prompt.
pub const ANSWER_CHOICES_MAX: usize = PROMPTS_MAX * CHOICES_MAX as usize;
/// Bytes of a JSON schema that an answer must follow; real ones have a few thousand.
pub const ANSWER_SCHEMA_BYTES_MAX: usize = 32 << 10;
/// Bytes of a grammar, or of a regular expression, that an answer must follow.
pub const ANSWER_GRAMMAR_BYTES_MAX: usize = 16 << 10;
/// Texts of which an answer must be one.
pub const ANSWER_TEXTS_MAX: usize = 1_024;

// The backend's models and their engine.

/// Seconds that a client refused by a full engine queue is told to wait.
pub const ENGINE_RETRY_AFTER_S: u32 = 1;
/// Largest `queue_max` that a configuration may ask for: requests that wait hold their prompts.
pub const ENGINE_QUEUE_MAX: usize = 1 << 14;
/// One place in so many of the queue is not for requests of the tiers flex and batch.
pub const ENGINE_QUEUE_RESERVED_SHARE: usize = 4;
/// Largest `running_max` that a configuration may ask for: each sequence has a row of logits as
/// wide as the vocabulary.
pub const ENGINE_RUNNING_MAX: usize = 1_024;
/// Tokens that one sequence may have proposed for one step: longer guesses are rarely right to the
/// end, and each proposed token has a row of logits.
pub const ENGINE_DRAFT_TOKENS_MAX: usize = 16;
/// Tokens of prompts that a step computes at least beside sequences that decode, however slow it
/// is: a prompt must get on. SmolLM2 computed a prompt of 4,000 tokens in 20 to 24 s alone; beside
/// a sequence that decodes in 42 s with four a step and in 29 s with eight, and the other's tokens
/// came every 43 and 56 ms instead of 12 to 14.
pub const PREFILL_TOKENS_MIN: usize = 4;
/// How much later than one of the service tier `priority` a request of another tier may be served:
/// what people wait for an answer to begin, what a tool waits, and what nobody watches.
pub const PATIENCE_STANDARD_MS: u64 = 10_000;
pub const PATIENCE_FLEX_MS: u64 = 60_000;
pub const PATIENCE_BATCH_MS: u64 = 10 * 60_000;
/// How much later a request may be served for each token of its prompt: about what computing one
/// takes, so that short prompts come before long ones that arrived little earlier.
pub const PATIENCE_PROMPT_TOKEN_US: u64 = 1_000;
/// Longest `decode_latency_ms` that a configuration may ask for, a minute: a longer one is none.
pub const DECODE_LATENCY_MS_MAX: u32 = 60_000;
/// Largest weight of a model among the others.
pub const MODEL_WEIGHT_MAX: u32 = 100;
/// Rows of one step up to which guessing ahead pays: a processor reads the weights once for a few
/// rows, but beyond that each row costs as much as a token, and wrong guesses are lost. Measured, 8
/// rows take 1.5 times as long as one, 16 rows 2.4 to 3.3 times.
pub const ENGINE_VERIFY_ROWS: usize = 16;
/// Tokens in a row that must have been seen before for what followed them to be proposed: after
/// fewer, ordinary text goes on in too many ways.
pub const LOOKUP_RUN_TOKENS: usize = 3;
/// Tokens of a prompt that are taken in for look-up in one step.
pub const LOOKUP_INDEX_TOKENS_PER_STEP: usize = 2_048;
/// Largest `step_tokens` that a configuration may ask for: the workspace of a forward pass grows
/// with it.
pub const ENGINE_STEP_TOKENS_MAX: usize = 1 << 14;
/// Tokens of one block of the KV cache: small enough to share short prefixes, large enough that a
/// block table of a long context stays short.
pub const KV_BLOCK_TOKENS: usize = 16;
/// Tokens that a model's KV cache holds when the configuration does not say: two long contexts, or
/// sixteen chats of a thousand tokens.
pub const KV_TOKENS_DEFAULT: usize = 16_384;
/// Tokens of context when the configuration does not say: a model's own limit may need more memory
/// for a single sequence than a small machine has.
pub const CONTEXT_TOKENS_DEFAULT: usize = 8_192;
/// Largest KV cache that a configuration may ask for.
pub const KV_TOKENS_MAX: usize = 1 << 22;
/// Symbols in the productions of one compiled grammar: a few megabytes.
pub const GRAMMAR_SYMBOLS_MAX: usize = 100_000;
/// Steps of building a grammar's regular expressions, 50,000 of which take a millisecond.
pub const GRAMMAR_COMPILE_STEPS_MAX: u64 = 1_000_000;
/// Steps of finding out which tokens a grammar allows next, 14,000 of which take a millisecond: the
/// model thread does it for every token.
pub const GRAMMAR_MASK_STEPS_MAX: u64 = 100_000;
/// Items of the parser made while finding that out, 20,000 of which take a millisecond.
pub const GRAMMAR_MASK_ITEMS_MAX: usize = 50_000;
/// States of a grammar's lexer, of one or two kilobytes, that the choices of a request share.
pub const GRAMMAR_LEXER_STATES_MAX: usize = 20_000;
/// Stack of the thread that compiles a grammar: a parser that descends once for each byte of
/// `ANSWER_GRAMMAR_BYTES_MAX` stays within it. Only what is used takes memory.
pub const GRAMMAR_STACK_BYTES: usize = 256 << 20;
/// Characters of a grammar's fault that an error message repeats.
pub const GRAMMAR_FAULT_CHARS_MAX: usize = 200;
/// Metadata keys of a model file; real ones have about 30.
pub const GGUF_METADATA_MAX: u64 = 4_096;
/// Tensors of a model file; the largest real ones have a few thousand.
pub const GGUF_TENSORS_MAX: u64 = 65_536;
/// Bytes of a metadata key or tensor name (the format's own limits are 65,535 and 64).
pub const GGUF_NAME_BYTES_MAX: u64 = 65_535;
/// Arrays within arrays in a model file's metadata; real ones have none.
pub const GGUF_ARRAY_DEPTH_MAX: usize = 4;
/// Largest alignment of tensor data that a model file may declare.
pub const GGUF_ALIGNMENT_MAX: u32 = 1 << 16;
/// Header of a safetensors file; the largest real ones have a few megabytes.
pub const SAFETENSORS_HEADER_BYTES_MAX: u64 = 32 << 20;
/// Dimensions of a tensor in one.
pub const SAFETENSORS_RANK_MAX: usize = 8;
/// Files that one model's weights are spread over.
pub const CHECKPOINT_FILES_MAX: usize = 512;
/// Largest group of 4-bit weights that a file may ask for; real ones have 32 to 128, or all inputs.
pub const CHECKPOINT_GROUP_MAX: i64 = 1 << 18;
/// A tokenizer.json; the largest real ones have 35 MB.
pub const TOKENIZER_FILE_BYTES_MAX: u64 = 128 << 20;
/// Layers of a model.
pub const MODEL_LAYERS_MAX: usize = 512;
/// Width of a model, and of its feed-forward layers.
pub const MODEL_WIDTH_MAX: usize = 1 << 18;
/// Attention heads of a model.
pub const MODEL_HEADS_MAX: usize = 1_024;
/// Tokens of a vocabulary.
pub const MODEL_VOCAB_MAX: usize = 1 << 20;
/// Context length that a model may declare.
pub const MODEL_CONTEXT_TOKENS_MAX: usize = 1 << 22;
/// A text whose perplexity is measured: it is held in memory, with its tokens.
pub const PERPLEXITY_TEXT_BYTES_MAX: u64 = 64 << 20;
/// Times that `farthing bench` makes one measurement: every value is kept for the median.
pub const BENCH_REPETITIONS_MAX: usize = 1 << 10;

// The backend's HTTP server. Its timeouts are configuration (`http:` of `farthing serve`).

/// Threads that move bytes; the computing ones are the model thread's.
pub const RUNTIME_THREADS: usize = 2;
/// Threads that render and tokenize prompts; further prompts wait their turn.
pub const PROMPT_THREADS: usize = 4;
/// Prompts that are rendered and tokenized or wait for it; the next request is refused. Each may
/// hold a body of `REQUEST_BODY_BYTES_MAX`.
pub const PROMPT_QUEUE_MAX: usize = 256;
/// Seconds that a client refused by a full prompt queue is told to wait.
pub const PROMPT_RETRY_AFTER_S: u32 = 1;
/// How long accepting rests after it failed, which happens when file descriptors run out.
pub const ACCEPT_REST_MS: u64 = 50;
/// Largest `http.connections_max` that a configuration may ask for: the ports of one address.
pub const HTTP_CONNECTIONS_MAX: u32 = 1 << 16;
/// Largest timeout under `http` that a configuration may ask for, one hour: a longer one is none.
pub const HTTP_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;

/// Longest `redis.timeout_ms`: whoever waits longer for a cache had better ask a model.
pub const REDIS_TIMEOUT_MS_MAX: u64 = 1_000;
/// Bytes of `redis.url`, and of `redis.prefix` and `redis.user`, which is in the name of each key.
pub const REDIS_URL_BYTES_MAX: usize = 512;
pub const REDIS_NAME_BYTES_MAX: usize = 64;
/// Largest number of a database: a Redis has 16 unless told otherwise.
pub const REDIS_DATABASE_MAX: u16 = 1_023;
/// To find Redis' address, connect, agree on TLS, log in and get an answer to a ping; nobody waits
/// for it. A Redis that takes longer is of no use for look-ups of 50 ms.
pub const REDIS_CONNECT_MS: u64 = 1_000;
/// How long the answer to a write is waited for. It is in nobody's way, but a store that never
/// answers must not hold what comes next.
pub const REDIS_WRITE_MS: u64 = 1_000;
/// First and longest pause before Redis is tried again: a restart is noticed at once, and a Redis
/// that is gone costs a connection every few seconds.
pub const REDIS_BACKOFF_MS_MIN: u64 = 50;
pub const REDIS_BACKOFF_MS_MAX: u64 = 5_000;
/// Commands that wait for the connection; a further one is a miss. There are fewer threads that
/// look anything up.
pub const REDIS_COMMANDS_MAX: usize = 64;
/// A store whose look-ups in Redis fail is left alone, though others get their answers: after so
/// many in this window, if half of them failed, for this long, and twice as long each time until
/// the last.
pub const REDIS_BREAKER_LOOK_UPS_MIN: u32 = 4;
pub const REDIS_BREAKER_WINDOW_MS: u64 = 10_000;
pub const REDIS_BREAKER_OPEN_MS: u64 = 1_000;
pub const REDIS_BREAKER_OPEN_MS_MAX: u64 = 30_000;
/// How often the writer to Redis looks after its index when there is nothing to write.
pub const REDIS_LOOK_AFTER_MS: u64 = 250;
/// How often it asks there how many entries are kept.
pub const REDIS_COUNT_MS: u64 = 5_000;
/// Neighbours of each vector in Redis' index, how many are looked at to find them when one comes,
/// and how many of them a look-up compares: with 64 it finds 16 as an exact one does nearly always.
pub const REDIS_INDEX_LINKS: usize = 16;
pub const REDIS_INDEX_BUILD_SEEN: usize = 200;
pub const REDIS_INDEX_SEEN: usize = 64;
/// A scope with fewer entries is looked through one by one in Redis, some 0.5 us each; and so is
/// one that has less than one in so many of the index: along its links there would mostly be
/// others'.
pub const REDIS_SCOPE_LARGE: u64 = 2_048;
pub const REDIS_SCOPE_SHARE: u64 = 4;
/// How often the entries of a scope that is asked for are counted, which reads its whole list.
pub const REDIS_SCOPE_COUNT_MS: u64 = 5 * 60 * 1_000;
/// How long Redis keeps the samples of a route that nobody learns of any more, 30 days.
pub const REDIS_SAMPLES_TTL_S: u64 = 30 * 24 * 60 * 60;
/// Pieces of a model file that tell it from another where its time cannot, for each machine has its
/// own copy: so many of so many bytes, evenly spread.
pub const MODEL_REVISION_PIECES: u64 = 256;
pub const MODEL_REVISION_PIECE_BYTES: u64 = 64 << 10;

/// Smallest and largest `response_store.bytes_max`.
pub const RESPONSE_STORE_BYTES_MIN: u64 = 1 << 20;
pub const RESPONSE_STORE_BYTES_MAX: u64 = 1 << 40;
/// Answers that wait to be written to the response store; further ones are dropped.
pub const RESPONSE_STORE_QUEUE_MAX: usize = 256;
/// Answers of one transaction, each of which waits for the disk once.
pub const RESPONSE_STORE_BATCH_MAX: usize = 64;
/// What an answer counts for besides its own bytes: its key and its place in the order.
pub const RESPONSE_STORE_ENTRY_OVERHEAD_BYTES: u64 = 128;
/// Largest answer that shares a page of the file with others.
pub const RESPONSE_STORE_SHARED_PAGE_BYTES: u64 = 2 << 10;
/// Memory for pages of the response store's file.
pub const RESPONSE_STORE_MEMORY_BYTES: usize = 16 << 20;
/// First and last bytes of a model file that tell it from another.
pub const MODEL_REVISION_BYTES: u64 = 1 << 20;

/// Headers of one request: OpenAI clients send about 20, Envoy adds about 10.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of one request's head; Envoy's own default is 60 KiB.
pub const HTTP_HEAD_BYTES_MAX: usize = 60 << 10;
/// Bytes read and thrown away after an answer that closes a connection, so that the answer is not
/// lost to a reset while the client still sends.
pub const HTTP_LINGER_BYTES_MAX: usize = 8 << 20;
/// Time for the same.
pub const HTTP_LINGER_MS: u64 = 1_000;
/// Server-sent events that are ready together travel in one chunk up to this size.
pub const STREAM_CHUNK_BYTES_MAX: usize = 64 << 10;
/// Bytes of `x-farthing-request-id`; a longer one is not echoed.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// A configuration file of the backend.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Models, and virtual models, in one process.
pub const MODELS_MAX: usize = 64;

// Providers of the backend.

/// Providers of one process.
pub const PROVIDERS_MAX: usize = 32;
/// Models that may be asked in the place of another: who has waited for so many has waited enough.
pub const PROVIDER_FALLBACKS_MAX: usize = 8;
/// Bytes of a provider's address.
pub const PROVIDER_URL_BYTES_MAX: usize = 1 << 10;
/// Bytes of a provider's key; the longest known ones, tokens with claims inside, have 2 KiB.
pub const PROVIDER_KEY_BYTES_MAX: usize = 4 << 10;
/// How often a file with a key is looked after: a new key is used within a second.
pub const PROVIDER_KEY_CHECK_MS: u64 = 1_000;
/// Longest timeout of a provider that a configuration may ask for, one hour: a longer one is none.
pub const PROVIDER_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;
/// A whole answer of a provider: 100,000 tokens of text with log probabilities are less.
pub const PROVIDER_ANSWER_BYTES_MAX: usize = 16 << 20;
/// A streamed one, whose events repeat some 200 bytes for each token.
pub const PROVIDER_STREAM_BYTES_MAX: usize = 256 << 20;
/// The body of a provider's error; what is longer is not read for its words.
pub const PROVIDER_ERROR_BYTES_MAX: usize = 64 << 10;
/// Characters of a provider's own words that an error message repeats.
pub const PROVIDER_MESSAGE_CHARS_MAX: usize = 300;
/// Bytes of the path of a field that a provider names.
pub const PROVIDER_PARAM_BYTES_MAX: usize = 128;
/// Headers of a provider's answer; OpenAI's has about 30.
pub const PROVIDER_HEADERS_MAX: usize = 128;
/// Bytes of them together.
pub const PROVIDER_HEAD_BYTES_MAX: u32 = 60 << 10;
/// Connections to one provider that are kept though nobody uses them.
pub const PROVIDER_POOL_IDLE_MAX: usize = 32;
/// For so long; load balancers on the way close them after one or several minutes.
pub const PROVIDER_POOL_IDLE_MS: u64 = 50_000;
/// How often a silent connection is asked whether it lives, so that one which does not is not used.
pub const PROVIDER_KEEP_ALIVE_MS: u64 = 20_000;
/// Names that are looked up at once. Each takes a thread, beside those for prompts.
pub const PROVIDER_RESOLVERS: usize = 2;
/// Longest time that a provider is left alone because a header of it says so, five minutes: its
/// limits count by the minute, and one that asks for more may have its clock wrong.
pub const PROVIDER_REST_MS_MAX: u64 = 5 * 60 * 1_000;
/// Outcomes that a circuit breaker remembers, at 24 bytes each.
pub const BREAKER_OUTCOMES_MAX: usize = 1_024;
/// Retries of one request that a configuration may ask for.
pub const RETRY_ATTEMPTS_MAX: u32 = 10;
/// Retries that a budget holds at most: what a moment of trouble costs a provider beyond its share.
pub const RETRY_BURST: u32 = 10;

// The filter's configuration.

/// Bytes of a plugin configuration.
pub const PLUGIN_CONFIG_BYTES_MAX: usize = 256 << 10;
/// Configured models: each has its own metrics, and the host keeps a metric's name for ever.
pub const PLUGIN_MODELS_MAX: usize = 32;
/// Configured virtual models.
pub const VIRTUAL_MODELS_MAX: usize = 64;
/// Names in a configuration: tiers, clusters, tenants, headers.
pub const CONFIG_NAME_BYTES_MAX: usize = 128;
/// Configured routes, and names in each list of what one matches.
pub const ROUTES_MAX: usize = 64;
pub const ROUTE_MATCHES_MAX: usize = 64;
/// Arms of one route's split.
pub const SPLIT_ARMS_MAX: usize = 16;
/// Entries of the list of what passes unjudged.
pub const PASSTHROUGH_MAX: usize = 64;
/// Credentials with a name, and tenants with a budget of their own.
pub const NAMED_TENANTS_MAX: usize = 1_024;
/// Bytes of the deployment's secret: fewer can be guessed, more are a mistake.
pub const SECRET_BYTES_MIN: usize = 16;
pub const SECRET_BYTES_MAX: usize = 1_024;
/// Longest life of a cached answer, 30 days: no answer lives for ever.
pub const CACHE_TTL_S_MAX: u32 = 30 * 24 * 60 * 60;
/// Slots of the shared cache ring: at the largest entry size this is 16 GiB, which is the user's
/// explicit wish by then.
pub const CACHE_SLOTS_MAX: u32 = 1 << 16;
/// Smallest and largest setting for one cached answer: the shared store copies a value under one
/// process-wide lock.
pub const CACHE_ENTRY_BYTES_MIN: usize = 1 << 10;
pub const CACHE_ENTRY_BYTES_MAX: usize = 256 << 10;
/// Entries of one worker's own cache.
pub const CACHE_PER_VM_ENTRIES_MAX: usize = 1 << 16;
/// Bytes of one worker's own cache: linear memory never shrinks.
pub const CACHE_PER_VM_BYTES_MAX: usize = 8 << 20;
/// Longest budget window, 31 days.
pub const BUDGET_WINDOW_S_MAX: u32 = 31 * 24 * 60 * 60;

/// Strongest shadow price of a budget: at a thousand a model that costs anything more is out of
/// reach as soon as the budget runs low.
pub const BUDGET_LOW_PRICE_MAX: f64 = 1_000.0;

// The filter's shared store.

/// Attempts of one compare-and-swap loop. Workers are few and a write takes microseconds.
pub const CAS_ATTEMPTS_MAX: usize = 64;
/// Buckets of the table of tenants that the configuration does not name.
pub const BUDGET_BUCKETS: u32 = 512;
/// Such tenants that can have a budget of their own in one bucket: all of its records are copied
/// with each change, about a kilobyte.
pub const BUDGET_BUCKET_RECORDS_MAX: usize = 16;
/// Conversations whose model is remembered, at 80 bytes each.
pub const STICKY_SLOTS: u32 = 4_096;
/// Longest time that a provider is believed to keep a prompt in its cache, a day.
pub const STICKY_TTL_S_MAX: u32 = 24 * 60 * 60;
/// Requests whose bytes one worker remembers to answer their repeats sooner.
pub const REPEAT_SLOTS: usize = 1_024;
/// Bytes of requests that one worker keeps for that, all together, and of one of them: comparing is
/// quicker than hashing, by which it knows all others.
pub const REPEAT_BYTES_MAX: usize = 4 << 20;
pub const REPEAT_BODY_BYTES_MAX: usize = 64 << 10;
/// Credentials of which one worker remembers whether the configuration names them, 48 bytes each.
pub const KNOWN_CREDENTIALS: usize = 1_024;
/// Bytes of a request's canonical form that are gathered before they are hashed.
pub const CACHE_KEY_RUN_BYTES: usize = 16 << 10;
/// Slots that a cached answer may lie in.
pub const CACHE_PROBES: u32 = 4;
/// Entries of fewer bytes are worth the same for what they save: each takes one slot.
pub const CACHE_WORTH_BYTES_MIN: usize = 4 << 10;
/// Entries that a worker's own cache has room for at least, however large they are: one large
/// answer must not push out all others.
pub const CACHE_PER_VM_ENTRIES_MIN: usize = 32;
/// Columns of the sketch that counts what a worker was asked for: four bytes each.
pub const CACHE_SKETCH_WIDTH_MIN: usize = 64;
pub const CACHE_SKETCH_WIDTH_MAX: usize = 1 << 18;
/// Ceiling of one counter: what was asked for more often is popular and that is all there is to
/// say.
pub const CACHE_SKETCH_COUNT_MAX: u8 = 63;
/// Requests a column after which all counters are halved.
pub const CACHE_SKETCH_HALVE_AFTER: u64 = 4;

// Identical requests under way on one worker.

/// Requests that wait for the answer to one identical request; the next goes upstream by itself.
pub const FLIGHT_FOLLOWERS_MAX: usize = 64;
/// Requests of one worker that wait so: each is a stream that Envoy holds.
pub const FLIGHT_WAITING_MAX: usize = 256;
/// Bytes of their bodies together; read, they may take a dozen times as much.
pub const FLIGHT_WAITING_BYTES_MAX: usize = 6 << 20;
/// A request that has waited so long goes upstream by itself: longer than most answers take, and
/// well within the idle timeout of a stream in Envoy.
pub const FLIGHT_WAIT_MS: u64 = 30_000;
/// Leaders that one flight may have, one after another, before all who still wait go by themselves:
/// an upstream that fails twice is not asked by one at a time.
pub const FLIGHT_LEADERS_MAX: u32 = 3;
/// Keys remembered whose answers could not be stored.
pub const FLIGHT_UNCACHEABLE_MAX: usize = 64;
/// How often waiting requests are looked after; it only bounds how late one notices its time is up.
pub const FLIGHT_TICK_MS: u64 = 100;
/// How soon they are looked after once there is a verdict on one.
pub const FLIGHT_WAKE_MS: u64 = 1;
/// Requests that one tick lets go: Envoy lets each go within the going of the one before, on one
/// stack.
pub const FLIGHT_WAKES_PER_TICK_MAX: usize = 16;

// One request in the filter.

/// Bytes of a non-streamed answer that are held back to put the cost into its headers; a larger
/// answer passes without. Envoy's own buffer limit is 1 MiB by default.
pub const RESPONSE_HOLD_BYTES_MAX: usize = 512 << 10;
/// Last bytes kept of an answer that is not held, to find its usage in.
pub const RESPONSE_TAIL_BYTES: usize = 16 << 10;
/// Bytes of a completion prompt that decide which replica gets the request.
pub const PREFIX_BYTES: usize = 1 << 10;
/// Bytes of a prompt that the router reads for its features, of the system text and of the last
/// user message each: the rest counts by length only.
pub const ROUTE_TEXT_BYTES_MAX: usize = 16 << 10;
/// Words of one sentence that the router knows and counts; further ones are not looked at.
pub const ROUTE_SENTENCE_CUES_MAX: usize = 32;
/// Points of the table that turns a gain into a rank, the least and the greatest included.
pub const GAIN_QUANTILES: usize = 201;
/// Rows that `farthing calibrate` needs: with fewer the share of prompts on which the models differ
/// is known too badly.
pub const CALIBRATION_ROWS_MIN: usize = 300;
/// Rows that it reads: they are all held in memory.
pub const CALIBRATION_ROWS_MAX: usize = 1 << 20;
/// Rows that a cascade is learned from and measured on: they are all held in memory, answers
/// included.
pub const CASCADE_ROWS_MAX: usize = 1 << 16;
/// Bytes of one such row, with all answers and their tokens.
pub const CASCADE_LINE_BYTES_MAX: usize = 4 << 20;
/// Rows that it needs: with fewer nothing is known of a rare mistake.
pub const CASCADE_ROWS_MIN: usize = 60;
/// Of which so many, evenly spread, choose its plan: every plan is tried on each.
pub const CASCADE_PLAN_ROWS_MAX: usize = 1_024;
/// Rows with a label by which a judge is measured that stands in for labels.
pub const JUDGE_LABELLED_ROWS_MIN: usize = 50;
/// Rows that show how sure a judge is of right and of wrong, where too few have labels.
pub const JUDGE_CONTROL_ROWS: usize = 32;
/// The largest share of wrong answers that a judge may take for right.
pub const JUDGE_FALSE_RIGHT_MAX: f64 = 0.2;
/// How sure the bound of what a cascade loses is.
pub const CASCADE_CONFIDENCE: f64 = 0.95;
/// Tiers of a cascade: one is none, and all lists of more are too many to try.
pub const CASCADE_TIERS_MIN: usize = 2;
pub const CASCADE_TIERS_MAX: usize = 6;
/// Bytes of a calibration file: 65,536 rows of six tiers have half.
pub const CASCADE_FILE_BYTES_MAX: u64 = 64 << 20;
/// Rows that one model answers side by side.
pub const CASCADE_SIDE_BY_SIDE: usize = 16;
/// Bytes of a pre-router's file: an embedding of 384 bytes for each of half the rows that may be
/// calibrated with, and some.
pub const PRE_ROUTER_FILE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one row of JSON Lines that it reads: a prompt and two answers.
pub const CALIBRATION_LINE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a trace that `farthing replay` reads; Mooncake's longest has 6 MB.
pub const REPLAY_BYTES_MAX: u64 = 256 << 20;
/// Requests of one.
pub const REPLAY_REQUESTS_MAX: usize = 1 << 20;
/// Blocks of the pool that it is replayed over, some 100 bytes each.
pub const REPLAY_POOL_BLOCKS_MAX: usize = 1 << 24;
/// Tokens of one request, prompt and answer together: the longest contexts that are served to many.
pub const REPLAY_TOKENS_MAX: usize = 1 << 17;
/// Blocks of one request's prompt.
pub const REPLAY_BLOCKS_MAX: usize = 1 << 16;
/// Bytes of a tenant's credential or name header.
pub const TENANT_BYTES_MAX: usize = 8 << 10;

// The start-up self-check.

/// How often a worker looks after held streams until it has verified that bodies arrive.
pub const SELF_CHECK_TICK_MS: u64 = 100;
/// A held stream without a body callback for so long is let go.
pub const SELF_CHECK_TIMEOUT_MS: u64 = 500;
/// A body that arrives within this after its stream was let go had been waiting in the host, which
/// delivers it before anything else once the stream resumes; a client rarely hits so short a
/// moment.
pub const SELF_CHECK_PROBE_MS: u64 = 2;
/// So many such bodies mean that the check has failed: one may be a client's chance.
pub const SELF_CHECK_PROOFS: u32 = 2;
/// How often a worker whose check has failed holds one request to look again.
pub const SELF_CHECK_REPROBE_S: u64 = 30;

/// Bytes of all tokens of a vocabulary together; the largest real ones have under 3 MB.
pub const BPE_VOCABULARY_BYTES_MAX: usize = 64 << 20;
/// Bytes of a piece that are merged at once; longer pieces are merged in windows of this size, in
/// which looking for the next merge is cheap.
pub const BPE_WINDOW_BYTES: usize = 64;
/// Pieces whose counts one worker remembers, at 32 bytes each.
pub const BPE_MEMO_ENTRIES: usize = 1_024;
/// Bytes of one request that are tokenized to count them, those of texts that were counted before
/// left out: about 2 ms of ordinary text in Envoy, and 7 ms of the worst. A longer prompt is
/// estimated, but what was counted of it is remembered, so that a long conversation is counted
/// exactly after some turns.
pub const EXACT_COUNT_BYTES_MAX: usize = 64 << 10;
/// Texts whose counts one worker remembers, at 24 bytes each.
pub const COUNTED_TEXTS: usize = 4_096;
/// Bytes of the shortest text that is remembered: tokenizing fewer costs no more than their hash.
pub const COUNTED_TEXT_BYTES_MIN: usize = 64;
/// A vocabulary file; that of o200k_base has 1.6 MB.
pub const VOCABULARY_FILE_BYTES_MAX: usize = 8 << 20;
/// Control and user-defined tokens of one vocabulary; Llama 3 has 256.
pub const VOCABULARY_SPECIALS_MAX: usize = 4_096;
/// Vocabulary files of a backend's folder.
pub const VOCABULARY_FILES_MAX: usize = 64;
/// How often a worker looks after vocabularies that it has not loaded.
pub const VOCABULARY_TICK_MS: u64 = 50;
/// Longest wait between two attempts to fetch a vocabulary, one minute: a backend that is down for
/// long is asked now and then.
pub const VOCABULARY_RETRY_MS_MAX: u64 = 60_000;
/// Largest deadline of one attempt that a configuration may ask for.
pub const VOCABULARY_TIMEOUT_MS_MAX: u32 = 60_000;
/// A model's chat template; the longest real ones have about 20 KiB.
pub const CHAT_TEMPLATE_BYTES_MAX: usize = 256 << 10;
/// Fuel of one rendering: about one unit an instruction and one for each 64 bytes that it makes, so
/// this also bounds its memory (128 MiB). A chat of a mebibyte spends about a tenth.
pub const CHAT_TEMPLATE_FUEL: u64 = 2_000_000;
/// Bytes of a rendered prompt: the largest request, tool definitions repeated, and the template's
/// own words.
pub const RENDERED_PROMPT_BYTES_MAX: usize = 4 << 20;
/// Tokens of one embedding input; the rest is cut off, as the model's authors do.
pub const EMBEDDING_INPUT_TOKENS_MAX: usize = 256;
/// Texts of one forward pass of the embedding model: enough to fill the cores, little to wait for.
pub const EMBEDDING_BATCH_MAX: usize = 16;
/// Embedding requests that wait for the worker; the next one is refused.
pub const EMBEDDING_QUEUE_MAX: usize = 64;
/// Seconds that a client refused by a full embedding queue is told to wait.
pub const EMBEDDING_RETRY_AFTER_S: u32 = 1;
/// Bytes of a file of the embedding model's folder; MiniLM's weights have 91 MB.
pub const EMBEDDING_FILE_BYTES_MAX: u64 = 2 << 30;

/// Requests of a window in which no more answers should be wrong for the semantic cache than it
/// states on the whole: what a user would notice.
pub const SEMANTIC_WINDOW: u32 = 500;
/// Entries of the semantic cache that are compared by all their numbers, after a sieve by their
/// signs alone has left so many.
pub const SEMANTIC_RESCORED: usize = 512;
/// Samples of a route by which the semantic cache keeps its bound; older ones are forgotten, as
/// traffic changes. Ten times as many as prove a share of 1 %.
pub const SEMANTIC_SAMPLES_MAX: usize = 4_096;
/// After so many samples half of the served answers are generated again, after twice as many a
/// fifth: a share of 1 % takes some thousand samples to be proven where it is nearly reached.
pub const SEMANTIC_RESAMPLED_SLOWDOWN: u64 = 500;
/// And never fewer of a thousand.
pub const SEMANTIC_RESAMPLED_MIN_PER_MILLE: u32 = 20;
/// Smallest and largest `semantic_cache.bytes_max`. All entries are in memory.
pub const SEMANTIC_BYTES_MIN: u64 = 1 << 20;
pub const SEMANTIC_BYTES_MAX: u64 = 1 << 36;
/// Longest wait for the semantic cache's verifier that a configuration may ask for, a minute.
pub const SEMANTIC_VERIFY_MS_MAX: u32 = 60_000;
/// Bytes of a message that the semantic cache compares with others: what the embedding model reads
/// of one, and as much again. A longer one goes to its model.
pub const SEMANTIC_QUESTION_BYTES_MAX: usize = 2 << 10;
/// Bytes of a conversation before its last message that are compared, from its end: some fifty
/// messages of a chat.
pub const SEMANTIC_CONTEXT_BYTES_MAX: usize = 8 << 10;
/// Routes whose samples the embedded store keeps, at 4 KiB each at most.
pub const SEMANTIC_ROUTES_MAX: usize = 4_096;
/// Tenants that may owe what was spent for them after their answers (embeddings, samples) at once.
pub const OVERHEAD_TENANTS_MAX: usize = 1 << 16;
/// Bytes of one record of the embedded store's file: the longest question and conversation, their
/// vectors, and an answer of a mebibyte.
pub const SEMANTIC_FRAME_BYTES_MAX: usize = 2 << 20;
/// Records that wait to be written to the embedded store's file; further ones are only in memory.
pub const SEMANTIC_QUEUE_MAX: usize = 1_024;
/// What the embedded store's file may have beyond twice what is kept, before it is written anew.
pub const SEMANTIC_LOG_SLACK_BYTES: u64 = 4 << 20;
/// Questions that `farthing eval cache-pairs` and `cache-stream` embed at once.
pub const SEMANTIC_EVAL_BATCH: usize = 256;
/// Bytes of one of their rows, and rows: sets have some ten thousand.
pub const SEMANTIC_EVAL_LINE_BYTES_MAX: usize = 1 << 20;
pub const SEMANTIC_EVAL_ROWS_MAX: usize = 1_000_000;
/// Bytes of an answer that the semantic cache keeps; a longer one is no answer to a question.
pub const SEMANTIC_ANSWER_BYTES_MAX: usize = 1 << 20;
/// A score is served only after so many samples of it or of the next levels above it.
pub const SEMANTIC_LEVEL_SAMPLES_MIN: u64 = 30;
/// How many levels count as like a score: one unit of log-odds.
pub const SEMANTIC_LEVELS_NEAR: usize = 4;
/// Look-ups of a route before the share of them that is served counts.
pub const SEMANTIC_LOOK_UPS_MIN: u32 = 200;
/// Look-ups of a route after which the older half counts half.
pub const SEMANTIC_LOOK_UPS_MAX: u32 = 8_192;
