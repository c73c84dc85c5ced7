"use strict";
// What was said: turns of one message and, for each column, the answers to it (several where the model called tools in between).
const Conversation = (() => {
  function newAnswer(model) {
    return { model, content: "", reasoning: "", calls: [], results: [], tokens: [], finish: null, usage: null, error: null, started: performance.now(), first: null, ended: null };
  }

  // Takes a chunk of a stream into an answer.
  function take(answer, chunk) {
    if (chunk.usage) answer.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    const reasoning = delta.reasoning_content ?? delta.reasoning;
    if (typeof delta.content === "string") answer.content += delta.content;
    if (typeof reasoning === "string") answer.reasoning += reasoning;
    for (const piece of delta.tool_calls ?? []) takeCall(answer, piece);
    if (choice.logprobs?.content) answer.tokens.push(...choice.logprobs.content);
    if (choice.finish_reason) answer.finish = choice.finish_reason;
    if (delta.content || reasoning || delta.tool_calls) answer.first ??= performance.now();
  }

  function takeCall(answer, piece) {
    const call = answer.calls[piece.index ?? 0] ??= { id: "", name: "", arguments: "" };
    call.id ||= piece.id ?? "";
    call.name ||= piece.function?.name ?? "";
    call.arguments += piece.function?.arguments ?? "";
  }

  const isAnswer = answer => answer.content !== "" || answer.calls.length > 0;

  // The messages of a column: those of turns that it answered, and the open turn, the last.
  function messages(turns, column, system, forTraining) {
    const made = system ? [{ role: "system", content: system }] : [];
    turns.forEach((turn, i) => {
      const answers = turn.columns[column] ?? turn.columns[0];
      const last = i === turns.length - 1 && !forTraining;
      if (!last && !answers.some(isAnswer)) return;
      made.push({ role: "user", content: turn.text });
      for (const answer of answers.filter(isAnswer)) made.push(...answered(answer, forTraining));
    });
    return made;
  }

  // An answer as a message, with the results of the tools that it called.
  function answered(answer, forTraining) {
    const message = { role: "assistant", content: answer.content };
    if (forTraining && answer.reasoning) message.reasoning_content = answer.reasoning;
    if (answer.calls.length > 0) message.tool_calls = answer.calls.map(c => ({ id: c.id, type: "function", function: { name: c.name, arguments: c.arguments } }));
    const results = answer.results.map((content, i) => ({ role: "tool", tool_call_id: answer.calls[i].id, content }));
    return [message, ...results];
  }

  // The conversation as rows that `owt train` reads: one line for each column.
  function exported(turns, system, tools) {
    const columns = Math.max(0, ...turns.map(t => t.columns.length));
    return Array.from({ length: columns }, (_, column) => messages(turns, column, system, true))
      .filter(made => made.some(m => m.role === "assistant"))
      .map(made => JSON.stringify(tools ? { messages: made, tools } : { messages: made }) + "\n")
      .join("");
  }

  return { newAnswer, take, messages, exported };
})();
