"use strict";
// The page itself: its fields and buttons, and what they do with the conversation.
const Page = (() => {
  const by = id => document.getElementById(id);
  const numbers = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"];
  const kept = ["api-key", "system", "tools", ...numbers];
  let turns = [], models = [], running = null, editing = false;

  // --- Models

  async function loadModels() {
    try {
      models = await Server.models();
      showError("");
    } catch (error) {
      models = [];
      showError(error.message);
    }
    fillModels(0, models.map(m => [m.id, named(m)]));
    fillModels(1, [["", "no other model"], ...models.map(m => [m.id, named(m)])]);
  }

  const named = model => model.parent ? `${model.id} (adapter)` : model.id;

  function fillModels(column, options) {
    const select = by("model-" + column), before = select.value;
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    if (options.some(([value]) => value === before)) select.value = before;
    showReport(column);
  }

  // The report of the run that made a model, where the server gives its path on this server.
  function showReport(column) {
    const link = by("report-" + column), report = models.find(m => m.id === by("model-" + column).value)?.report;
    link.hidden = !(typeof report === "string" && /^\/(?![/\\])/.test(report));
    if (link.hidden) link.removeAttribute("href");
    else link.href = report;
  }

  const chosenModels = () => [by("model-0").value, by("model-1").value].filter((id, i) => i === 0 || id !== "");

  // --- Settings

  // The settings as fields of a request; null, with the field shown, where one is wrong.
  function settings() {
    const made = {};
    for (const id of numbers) {
      const field = by(id);
      if (!field.checkValidity()) return complain(field, `${field.labels[0].textContent}: ${field.validationMessage}`);
      if (field.value !== "") made[id] = Number(field.value);
    }
    const tools = by("tools").value.trim();
    if (tools !== "") {
      try { made.tools = JSON.parse(tools); } catch { /* told below */ }
      if (!Array.isArray(made.tools)) return complain(by("tools"), "Tools must be a JSON list, such as [{\"type\": \"function\", \"function\": {\"name\": \"…\"}}].");
    }
    if (by("logprobs").checked) Object.assign(made, { logprobs: true, top_logprobs: 5 });
    return made;
  }

  function complain(field, text) {
    by("settings-fold").open = true;
    field.focus();
    showError(text);
    return null;
  }

  function restoreSettings() {
    for (const id of kept) by(id).value = sessionStorage.getItem("owt." + id) ?? "";
    Server.setKey(by("api-key").value);
  }

  // --- Asking

  async function send() {
    const text = by("message").value.trim();
    if (text === "" || running) return;
    const asked = settings();
    if (!asked) return;
    if (editing) removeTurn(turns.pop());
    leaveEditing();
    by("message").value = "";
    await answerTurn(addTurn(text), asked);
  }

  async function regenerate() {
    const asked = running || turns.length === 0 ? null : settings();
    if (!asked) return;
    const turn = turns.at(-1);
    turn.answers.replaceChildren();
    await answerTurn(turn, asked);
  }

  function addTurn(text) {
    const turn = { text, columns: [], views: [], element: document.createElement("article"), answers: document.createElement("div") };
    const said = document.createElement("p");
    turn.element.setAttribute("aria-label", "Message " + (turns.length + 1) + " and answers");
    said.className = "user";
    said.textContent = text;
    turn.answers.className = "answers";
    turn.element.append(said, turn.answers);
    by("welcome").hidden = true;
    by("conversation").append(turn.element);
    turns.push(turn);
    return turn;
  }

  function removeTurn(turn) {
    turn.element.remove();
  }

  async function answerTurn(turn, asked) {
    const names = chosenModels();
    turn.columns = names.map(() => []);
    turn.views = [];
    turn.answers.classList.toggle("two", names.length === 2);
    const columns = names.map(() => turn.answers.appendChild(document.createElement("div")));
    await run(names.map((name, column) => signal => ask(turn, column, columns[column], name, asked, signal)));
  }

  // Goes on after tools have been called; whether that could be begun.
  function continueWith(turn, column, place, answer, asked, results) {
    if (running || turn !== turns.at(-1)) {
      showError(running ? "Wait until the other answers have ended, or stop them." : "Results can be given to the last message alone.");
      return false;
    }
    answer.results = results;
    run([signal => ask(turn, column, place, answer.model, asked, signal)]);
    return true;
  }

  async function run(questions) {
    showError("");
    running = new AbortController();
    document.body.classList.add("running");
    showState();
    by("status").textContent = questions.length === 2 ? "Both models are answering." : "The model is answering.";
    scrollDown(true);
    const ended = await Promise.all(questions.map(q => q(running.signal)));
    const stoppedHere = document.activeElement === by("stop");
    running = null;
    document.body.classList.remove("running");
    showState();
    if (stoppedHere) by("message").focus();
    by("status").textContent = ended.some(a => a.finish === "stopped") ? "Stopped." : ended.some(a => a.error) ? "An answer failed." : "The answer is complete.";
  }

  // Asks one model and shows its answer as it comes.
  async function ask(turn, column, place, model, asked, signal) {
    const body = { model, messages: Conversation.messages(turns, column, by("system").value.trim(), false), stream: true, stream_options: { include_usage: true }, ...asked };
    const answer = Conversation.newAnswer(model);
    turn.columns[column].push(answer);
    const view = new AnswerView(answer, model, results => continueWith(turn, column, place, answer, asked, results));
    turn.views.push(view);
    place.append(view.element);
    try {
      for await (const chunk of Server.chat(body, signal)) {
        Conversation.take(answer, chunk);
        const low = isLow();
        view.later(by("show-tokens").checked);
        if (low) scrollDown(false);
      }
    } catch (error) {
      if (signal.aborted) answer.finish = "stopped";
      else answer.error = error.message;
    }
    answer.ended = performance.now();
    const low = isLow();
    view.end(by("show-tokens").checked);
    if (low) scrollDown(true);
    return answer;
  }

  const isLow = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 80;

  function scrollDown(now) {
    const down = () => scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
    if (now) down();
    else requestAnimationFrame(down);
  }

  function stop() {
    running?.abort();
  }

  // --- The other buttons

  function edit() {
    if (running || turns.length === 0) return;
    editing = true;
    by("editing").hidden = false;
    by("message").value = turns.at(-1).text;
    by("message").focus();
    showState();
  }

  function leaveEditing() {
    if (!editing) return;
    editing = false;
    by("editing").hidden = true;
    by("message").value = "";
    showState();
  }

  function clear() {
    turns.forEach(removeTurn);
    turns = [];
    leaveEditing();
    by("welcome").hidden = false;
    by("status").textContent = "A new conversation.";
    by("message").focus();
    showState();
  }

  function exportRows() {
    const asked = settings();
    const rows = asked && Conversation.exported(turns, by("system").value.trim(), asked.tools);
    if (!rows) return showError(asked ? "There is no answer to export yet." : by("error").textContent);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([rows], { type: "application/jsonl" }));
    link.download = "conversation.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    by("status").textContent = "Exported for owt train as conversation.jsonl.";
  }

  function copyButton(name, text) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small";
    button.textContent = name;
    button.addEventListener("click", async () => {
      by("status").textContent = await copy(text()) ? "Copied." : "The browser does not let the page copy.";
    });
    return button;
  }

  // The clipboard is there on secure pages alone (loopback is one); elsewhere the older way is tried.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = document.createElement("textarea"), before = document.activeElement;
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      before?.focus();
      return done;
    }
  }

  // --- What the page shows of itself

  function showState() {
    by("send").setAttribute("aria-disabled", String(running !== null));
    by("stop").disabled = running === null;
    for (const id of ["regenerate", "edit", "export", "clear"]) by(id).disabled = running !== null || turns.length === 0;
    by("send").textContent = editing ? "Send again" : "Send";
  }

  function showError(text) {
    by("error").textContent = text;
    by("error").hidden = text === "";
  }

  function showTheme() {
    const chosen = localStorage.getItem("owt.theme");
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    if (chosen) document.documentElement.dataset.theme = chosen;
    by("theme").setAttribute("aria-pressed", String(dark));
    return dark;
  }

  function onKey(event) {
    if (event.key === "Escape") {
      Tokens.hide();
      if (running) stop();
      else leaveEditing();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === by("message")) {
      event.preventDefault();
      send();
    }
  }

  function start() {
    restoreSettings();
    showTheme();
    by("settings-fold").open = matchMedia("(min-width: 60em)").matches;
    document.addEventListener("keydown", onKey);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
    by("theme").addEventListener("click", () => { localStorage.setItem("owt.theme", showTheme() ? "light" : "dark"); showTheme(); });
    by("composer").addEventListener("submit", event => { event.preventDefault(); send(); });
    by("settings").addEventListener("submit", event => event.preventDefault());
    by("settings").addEventListener("input", event => { if (kept.includes(event.target.id)) sessionStorage.setItem("owt." + event.target.id, event.target.value); });
    by("api-key").addEventListener("change", () => { Server.setKey(by("api-key").value); loadModels(); });
    by("show-tokens").addEventListener("change", () => turns.forEach(t => t.views.forEach(v => v.update(by("show-tokens").checked))));
    for (const column of [0, 1]) by("model-" + column).addEventListener("change", () => showReport(column));
    for (const [id, action] of Object.entries({ stop, regenerate, edit, export: exportRows, clear })) by(id).addEventListener("click", action);
    by("message").focus();
    loadModels();
  }

  addEventListener("DOMContentLoaded", start);
  return { copyButton };
})();
