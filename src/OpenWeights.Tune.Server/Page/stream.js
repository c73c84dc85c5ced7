"use strict";
// What is asked of the server, and its answers: each error becomes one line that a person can act on.
const Server = (() => {
  let key = "";

  function headers(more) {
    return key ? { ...more, Authorization: "Bearer " + key } : more;
  }

  async function ask(path, options) {
    let response;
    try {
      response = await fetch(path, { ...options, headers: headers(options.headers ?? {}), credentials: "omit", cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server cannot be reached. Is it still running?");
    }
    if (!response.ok) throw new Error(await refusal(response));
    return response;
  }

  // Why the server refused, in one line.
  async function refusal(response) {
    const text = await response.text().catch(() => "");
    let said = "";
    try { said = messageOf(JSON.parse(text).error); } catch { /* not the shape of an error: the status says what there is to say */ }
    if (response.status === 401) return "The server asks for an API key: write it into the field “API key” under Settings." + (said ? " It says: " + said : "");
    const wait = response.status === 429 && response.headers.get("Retry-After");
    return oneLine(said || `The server answered ${response.status} ${response.statusText}`.trim() + ".") + (wait ? ` Try again in ${wait} s.` : "");
  }

  const messageOf = error => typeof error === "string" ? error : error?.message ?? "";
  const oneLine = text => String(text).replace(/\s+/g, " ").trim();

  async function models() {
    const answer = await (await ask("/v1/models", {})).json();
    return Array.isArray(answer.data) ? answer.data.filter(m => typeof m?.id === "string") : [];
  }

  // The chunks of a streamed answer, as objects.
  async function* chat(body, signal) {
    const response = await ask("/v1/chat/completions", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      let chunk;
      try { chunk = JSON.parse(data); } catch { throw new Error("The server sent a piece of an answer that is no JSON."); }
      if (chunk.error) throw new Error(oneLine(messageOf(chunk.error)) || "The server broke the answer off.");
      yield chunk;
    }
    throw new Error("The connection ended before the answer did.");
  }

  // The data of server-sent events. Bytes come in pieces of any size, lines end with CR, LF or both, and an event ends with an empty line.
  async function* events(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", data = [];
    try {
      for (let ended = false; !ended;) {
        const { done, value } = await reader.read();
        ended = done;
        rest += done ? "" : value;
        const lines = rest.split(ended ? /\r\n|\n|\r/ : /\r\n|\n|\r(?!$)/); // a CR at the end may be half of CR LF
        rest = lines.pop();
        for (const line of lines) {
          if (line === "") {
            if (data.length > 0) yield data.join("\n");
            data = [];
          } else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
    } finally {
      reader.cancel().catch(() => { /* it has ended already */ });
    }
  }

  return { models, chat, setKey: value => { key = value.trim(); } };
})();
