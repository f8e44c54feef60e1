// Writes what an agent does into agentwatch's log directory, from Node 18 or newer; needs no package. The log directory is that of
// AGENT_WORK_LOG_DIR, else .cache/agent-work-logs below the working directory; AGENTWATCH_RUN names the run, whose directory
// takes the events where there is one, and AGENT_WORK_LOGGING_ENABLED=false switches everything off. Nothing here throws for what a disk or a value does: what cannot be
// written is counted in `lost` and told once on stderr.

import { randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readlinkSync, readSync, writeSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";

const LONGEST_LINE = 4 << 20; // bytes: half of what the daemon reads
const FLAGS = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT;
const LEVELS_OF_ERRORS = new Set(["error", "crit", "critical", "alert", "emerg", "fatal"]);

/** The log of one attempt. `fields` (task_id, executor, model, branch, run_id, …) stand on every line. */
export class AgentLogger {
  #start_is_due = true;
  #end_is_due = true;
  #began_ms;
  #tally = { tool_calls: 0, errors: 0, categories: new Set(), fingerprints: new Set(), tokens: 0, cost_usd: undefined };

  constructor(attempt_id, { log_dir, ...fields } = {}) {
    this.attempt_id = attempt_id || `attempt-${randomBytes(6).toString("hex")}`;
    this.enabled = is_enabled();
    this.directory = log_directory(log_dir);
    this.fields = { ...fields, run_id: fields.run_id === "latest" ? latest_run(this.directory) : (fields.run_id ?? run_id(this.directory)) };
    this.files = new Files();
  }

  /** Lines that could not be written. */
  get lost() {
    return this.files.lost;
  }

  start(prompt, { prompt_type = "initial", followup_reason } = {}) {
    if (!this.#start_is_due) return this;
    this.#start_is_due = false;
    this.#began_ms = Date.now();
    this.event("session_start", { prompt, prompt_type, followup_reason, cwd: process.cwd() });
    return this;
  }

  output(output, { stream_type = "stdout", stop_reason, ...more } = {}) {
    this.event("agent_output", { output, stream_type, stop_reason, ...more });
  }

  thinking(thinking, more = {}) {
    this.event("agent_thinking", { thinking, ...more });
  }

  /** Returns the id to give to `tool_result`. */
  tool_call(tool_name, tool_params, { tool_call_id = `call_${randomBytes(8).toString("hex")}`, ...more } = {}) {
    this.#tally.tool_calls += 1;
    this.event("tool_call", { tool_name, tool_params, tool_call_id, ...more });
    return tool_call_id;
  }

  tool_result(tool_name, result, { tool_call_id, exit_code, error_message, is_error, ...more } = {}) {
    const failed = is_error ?? (Boolean(exit_code) || error_message !== undefined);
    this.event("tool_result", { tool_name, tool_call_id, is_error: failed, exit_code, error_message, result, ...more });
  }

  /** `message` is a text or an Error. A fingerprint that is not given is made by the daemon. */
  error(message, { fingerprint, category, stack_trace, ...more } = {}) {
    const stack = stack_trace ?? (message instanceof Error ? message.stack : undefined);
    this.#tally.errors += 1;
    if (category) this.#tally.categories.add(category);
    if (fingerprint) this.#tally.fingerprints.add(fingerprint);
    this.event("error", { error_message: text(message), error_fingerprint: fingerprint, error_category: category, stack_trace: stack, ...more });
  }

  followup(prompt, { reason, ...more } = {}) {
    this.event("followup_sent", { prompt, followup_reason: reason, ...more });
  }

  /** What one step took, in tokens and USD: no running total. `input` is without what came from a cache. */
  usage({ input = 0, output = 0, cache_read = 0, cache_write = 0, reasoning = 0, cost_usd } = {}) {
    this.#tally.tokens += input + output + cache_read + cache_write;
    if (cost_usd !== undefined) this.#tally.cost_usd = (this.#tally.cost_usd ?? 0) + cost_usd;
    this.event("usage", { usage: { input, output, cache_read, cache_write, reasoning }, cost_usd });
  }

  status_change(new_status, old_status, { reason } = {}) {
    this.event("status_change", { old_status, new_status, reason });
  }

  /** success, failed, timeout or interrupted. */
  end(completion_status = "success", { total_tokens, cost_usd, outcome } = {}) {
    if (!this.enabled || !this.#end_is_due) return;
    this.#end_is_due = false;
    this.start();
    const sums = this.#tally;
    const told = { total_tokens: total_tokens ?? sums.tokens, cost_usd: cost_usd ?? sums.cost_usd, duration_ms: Date.now() - this.#began_ms };
    this.event("session_end", { completion_status, ...told, outcome });
    const status = completion_status === "success" ? "completed" : completion_status;
    const metrics = {
      timestamp: new Date().toISOString(),
      attempt_id: this.attempt_id,
      ...this.fields,
      scope: scope_of(this.directory, this.fields.run_id),
      completion_status,
      metrics: { ...told, errors: sums.errors, tool_calls: sums.tool_calls },
      outcome: { status, ...outcome },
      error_summary: { total_errors: sums.errors, error_categories: [...sums.categories], error_fingerprints: [...sums.fingerprints] },
    };
    this.files.append(join(this.directory, "agent-metrics.jsonl"), line_of(metrics));
  }

  /** Any event by its name in the contract. */
  event(event_type, data = {}) {
    if (!this.enabled) return;
    if (event_type !== "session_start") this.start();
    const elapsed_ms = Date.now() - this.#began_ms;
    const line = line_of({ timestamp: new Date().toISOString(), attempt_id: this.attempt_id, event_type, ...this.fields, elapsed_ms, data });
    this.files.append(join(this.directory, scope_of(this.directory, this.fields.run_id) ?? "", "agent-work-stream.jsonl"), line);
    this.files.append(join(this.directory, "agent-sessions", `${file_name(this.attempt_id)}.jsonl`), line);
    if (event_type === "error") this.files.append(join(this.directory, "agent-errors.jsonl"), line);
  }
}

/**
 * A transport for Winston 3: `createLogger({ transports: [winston_transport(winston, { source: "main-app" })] })`.
 *
 * Lines go to `runs/<run>/<source>.jsonl` where AGENTWATCH_RUN (or `run_id`) names a run, else to `<source>.jsonl`: Winston's own
 * JSON with a timestamp, the run id and the source. Where an attempt is known, by `attempt_id` here or in a line's metadata, a line
 * also is an event of that attempt: `error` from the level error on, else `agent_output`.
 *
 * A batch is written `interval_ms` after its first line, at `most_lines` or 64 KiB, at once for an error, and when the logger or the
 * process ends.
 */
export function winston_transport(winston, { source = "app", attempt_id, run_id: given_run, log_dir, most_lines = 100, interval_ms = 200, ...options } = {}) {
  const directory = log_directory(log_dir);
  const run = given_run ?? run_id(directory);
  const path = join(directory, ...(run ? ["runs", file_name(run)] : []), `${file_name(source)}.jsonl`);
  const batch = new Batch(path, most_lines, interval_ms);

  class AgentwatchTransport extends winston.Transport {
    log(info, callback) {
      const is_error = LEVELS_OF_ERRORS.has(info[Symbol.for("level")] ?? info.level);
      if (is_enabled()) batch.add(line_of(entry(info, is_error)), is_error);
      this.emit("logged", info);
      callback();
    }

    get lost() {
      return batch.files.lost;
    }

    flush() {
      batch.flush();
    }

    close() {
      batch.close();
    }

    _final(callback) {
      batch.close();
      callback();
    }
  }

  function entry(info, is_error) {
    const { level, message, timestamp, stack, ...metadata } = info;
    const whose = metadata.attempt_id ?? attempt_id;
    const said = text(message ?? "");
    const line = { timestamp: iso(timestamp), level: info[Symbol.for("level")] ?? level, message: said, source, run_id: run, stack, ...metadata };
    if (!whose || metadata.event_type) return line;
    const data = is_error ? { error_message: said, stack_trace: stack } : { output: said, stream_type: "log" };
    return { ...line, attempt_id: whose, event_type: is_error ? "error" : "agent_output", data };
  }

  return new AgentwatchTransport(options);
}

/** Lines that are written together, each of them whole. */
class Batch {
  #lines = [];
  #bytes = 0;
  #timer;

  constructor(path, most_lines, interval_ms) {
    Object.assign(this, { path, most_lines, interval_ms, files: new Files() });
    this.at_exit = () => this.flush();
    process.on("exit", this.at_exit);
  }

  add(line, is_urgent) {
    this.#lines.push(line);
    this.#bytes += line.length;
    if (is_urgent || this.#lines.length >= this.most_lines || this.#bytes >= 65536) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), this.interval_ms).unref();
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#lines.length === 0) return;
    const lines = this.#lines;
    this.#lines = [];
    this.#bytes = 0;
    this.files.append(this.path, Buffer.concat(lines), lines.length);
  }

  close() {
    this.flush();
    process.removeListener("exit", this.at_exit);
  }
}

/** Appends whole lines by one write each. A file is opened for each write, so that rotation and a new directory are met. */
class Files {
  lost = 0;

  append(path, lines, count = 1) {
    try {
      const file = open(path);
      try {
        write(file, is_torn(file) ? Buffer.concat([Buffer.from("\n"), lines]) : lines);
      } finally {
        closeSync(file);
      }
    } catch (error) {
      this.lost += count;
      tell(path, error);
    }
  }
}

function open(path) {
  try {
    return openSync(path, FLAGS, 0o600);
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return openSync(path, FLAGS, 0o600);
  }
}

// What a killed process or a full disk left of a line is closed first. Another writer's line looks so too while it is being written,
// for some milliseconds; if it takes longer, there is an empty line, which readers pass over.
function is_torn(file) {
  const last = Buffer.alloc(1);
  for (let tries = 0; tries < 20; tries += 1) {
    const { size } = fstatSync(file);
    if (size === 0 || readSync(file, last, 0, 1, size - 1) === 0 || last[0] === 10) return false;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
  return true;
}

function write(file, lines) {
  for (let done = 0; done < lines.length; ) done += writeSync(file, lines, done);
}

function line_of(value) {
  let line = encode(value);
  for (let most = 1 << 18; line.length > LONGEST_LINE && most > 64; most >>= 4) line = encode(value, most);
  return line;
}

/** JSON of anything: what refers to itself or cannot be read is said so, texts are cut to `most` characters. */
function encode(value, most = Infinity) {
  const above = [];
  const replace = function (key, one) {
    while (above.length && above.at(-1) !== this) above.pop();
    if (typeof one === "bigint" || typeof one === "symbol" || typeof one === "function") return String(one);
    if (one instanceof Error) return { name: one.name, message: one.message, stack: one.stack };
    if (typeof one === "string") return (one.length > most ? `${one.slice(0, most)}… [${one.length - most} characters cut]` : one).toWellFormed?.() ?? one;
    if (Array.isArray(one) && one.length > most) return one.slice(0, most);
    if (typeof one !== "object" || one === null) return one;
    if (above.includes(one)) return "[circular]";
    above.push(one);
    return one;
  };
  try {
    return Buffer.from(`${JSON.stringify(value, replace)}\n`);
  } catch (error) {
    return Buffer.from(`${JSON.stringify({ ...flat(value), data: { output: `[not serialisable: ${error.message}]` } })}\n`);
  }
}

const flat = (value) => Object.fromEntries(Object.entries(value).filter(([, one]) => typeof one === "string" || typeof one === "number"));

function text(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  return typeof value === "object" ? encode(value).toString().trimEnd() : String(value);
}

function iso(timestamp) {
  const at = new Date(timestamp ?? Date.now());
  return (Number.isNaN(at.getTime()) ? new Date() : at).toISOString();
}

function file_name(name) {
  return name.replace(/[^\p{L}\p{N}_.-]/gu, "_").replace(/^\.+/, "_").slice(0, 120) || "_";
}

function is_enabled() {
  const value = process.env.AGENTWATCH_LOGS_LOGGING_ENABLED || process.env.AGENT_WORK_LOGGING_ENABLED || "true";
  return !["false", "no", "off", "n", "f", "0"].includes(value.toLowerCase());
}

function log_directory(given) {
  return resolve(given || process.env.AGENTWATCH_LOGS_DIR || process.env.AGENT_WORK_LOG_DIR || ".cache/agent-work-logs");
}

function run_id(directory) {
  const id = process.env.AGENTWATCH_RUN;
  return id === "latest" ? latest_run(directory) : id || undefined;
}

function latest_run(directory) {
  try {
    return basename(readlinkSync(join(directory, "runs", "latest")));
  } catch {
    return undefined;
  }
}

/** `runs/<id>`, as long as the run has a directory there: then its events go into it. */
function scope_of(directory, id) {
  if (typeof id !== "string" || !id || id.startsWith(".") || id.includes("/")) return undefined;
  const is_directory = (path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return is_directory(join(directory, "runs")) && is_directory(join(directory, "runs", id)) ? `runs/${id}` : undefined;
}

const told = new Set();

function tell(path, error) {
  if (told.has(error.code)) return;
  told.add(error.code);
  process.stderr.write(`agentwatch: \`${path}\` cannot be written: ${error.message}; events are lost, and counted in \`lost\`\n`);
}
