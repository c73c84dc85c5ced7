"use strict";
// One answer on the page: reasoning folded, text as Markdown or as tokens, calls of tools with room for their results, and how it ended.
class AnswerView {
  constructor(answer, heading, onResults) {
    this.answer = answer;
    this.onResults = onResults;
    this.element = document.createElement("section");
    this.element.className = "answer";
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Answer of " + answer.model);
    const title = document.createElement("h2");
    title.textContent = heading;
    this.reasoning = this.fold("Reasoning");
    this.reasoningText = this.reasoning.appendChild(document.createElement("div"));
    this.text = document.createElement("div");
    this.text.className = "text";
    this.text.setAttribute("aria-live", "polite");
    this.text.setAttribute("aria-busy", "true");
    this.tokens = Tokens.view(answer.model);
    this.tokens.element.hidden = true;
    this.calls = document.createElement("div");
    this.error = document.createElement("p");
    this.error.className = "error";
    this.error.setAttribute("role", "alert");
    this.error.hidden = true;
    this.foot = document.createElement("div");
    this.foot.className = "foot";
    this.facts = document.createElement("span");
    this.foot.append(this.facts, Page.copyButton("Copy", () => answer.content));
    this.element.append(title, this.reasoning, this.text, this.tokens.element, this.calls, this.error, this.foot);
    this.update(false);
  }

  fold(name) {
    const made = document.createElement("details"), summary = document.createElement("summary");
    summary.textContent = name;
    made.append(summary);
    return made;
  }

  // Draws soon: many pieces that come between two frames are drawn once.
  later(showTokens) {
    this.frame ??= requestAnimationFrame(() => this.update(showTokens));
  }

  update(showTokens) {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    const { answer } = this;
    const asTokens = showTokens && answer.tokens.length > 0;
    this.reasoning.hidden = answer.reasoning === "";
    if (this.drawnReasoning !== answer.reasoning) this.reasoningText.replaceChildren(Markdown.render(this.drawnReasoning = answer.reasoning));
    if (this.drawn !== answer.content) this.text.replaceChildren(Markdown.render(this.drawn = answer.content));
    this.text.hidden = asTokens;
    this.tokens.element.hidden = !asTokens;
    if (asTokens) this.tokens.update(answer.tokens);
    if (answer.ended === null) this.drawCalls(false);
    this.facts.textContent = this.summary();
  }

  // Draws what has ended.
  end(showTokens) {
    this.drawCalls(true);
    this.update(showTokens);
    this.text.setAttribute("aria-busy", "false");
    this.error.textContent = this.answer.error ?? "";
    this.error.hidden = this.answer.error === null;
  }

  summary() {
    const { usage, first, started, ended, finish } = this.answer;
    const parts = [];
    if (usage?.completion_tokens !== undefined) {
      parts.push(usage.completion_tokens === 1 ? "1 token" : `${usage.completion_tokens} tokens`);
      const seconds = (ended - first) / 1000;
      const rate = (usage.completion_tokens - 1) / seconds;
      if (ended !== null && first !== null && rate > 0 && seconds > 0) parts.push(`${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`);
    }
    if (first !== null) parts.push(`first after ${((first - started) / 1000).toFixed(2)} s`);
    if (finish === "length") parts.push("cut at the limit of tokens");
    if (finish === "stopped") parts.push("stopped by you");
    return parts.join(", ");
  }

  // The calls of tools; once they are whole, each with a field for its result.
  drawCalls(whole) {
    const { calls } = this.answer;
    if (calls.length === 0 || (this.wholeCalls && whole)) return;
    this.wholeCalls = whole;
    const fields = [];
    this.calls.replaceChildren(...calls.map(call => {
      const made = document.createElement("div"), pre = document.createElement("pre"), name = document.createElement("strong");
      made.className = "call";
      name.textContent = call.name;
      pre.tabIndex = 0;
      pre.setAttribute("role", "group");
      pre.setAttribute("aria-label", "Arguments for " + call.name);
      pre.textContent = pretty(call.arguments);
      made.append("Calls the tool ", name, " with", pre);
      if (whole && this.answer.finish !== "stopped") {
        const label = document.createElement("label"), field = document.createElement("textarea");
        field.rows = 2;
        label.append("Result of " + call.name, field);
        made.append(label);
        fields.push(field);
      }
      return made;
    }));
    if (fields.length > 0) this.calls.append(this.resultsButton(fields));
  }

  resultsButton(fields) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = fields.length === 1 ? "Send the result" : "Send the results";
    button.addEventListener("click", () => {
      if (!this.onResults(fields.map(f => f.value))) return;
      for (const field of fields) field.readOnly = true;
      button.remove();
    });
    return button;
  }
}

function pretty(json) {
  try { return JSON.stringify(JSON.parse(json), null, 2); } catch { return json; }
}
