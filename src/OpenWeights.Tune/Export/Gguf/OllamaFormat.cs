using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Where a chat format puts the system message.</summary>
internal enum OllamaSystem
{
    /// <summary>In a turn of its own.</summary>
    Turn,

    /// <summary>Before the first user message, in its turn.</summary>
    InFirst,

    /// <summary>Before the last user message, in its turn.</summary>
    InLast,
}

/// <summary>A chat format that can be written as a template of Ollama, which is one of Go's text/template.</summary>
/// <param name="Name">Name of the format.</param>
/// <param name="System">Where the system message is.</param>
/// <param name="SystemOpen">Text before the system message.</param>
/// <param name="SystemClose">Text after it.</param>
/// <param name="UserOpen">Text before a user message.</param>
/// <param name="UserClose">Text after it.</param>
/// <param name="AssistantOpen">Text before an answer.</param>
/// <param name="AssistantClose">Text after it.</param>
internal sealed record OllamaFormat(string Name, OllamaSystem System, string SystemOpen, string SystemClose, string UserOpen, string UserClose, string AssistantOpen, string AssistantClose)
{
    // What asks for an answer: its beginning, but for a space, which the model writes itself.
    private string Ask => AssistantOpen == " " ? "" : AssistantOpen;

    /// <summary>The formats, checked against the published templates of their families.</summary>
    internal static IReadOnlyList<OllamaFormat> All { get; } =
    [
        new("ChatML", OllamaSystem.Turn, "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n"),
        new("Llama 3", OllamaSystem.Turn, Header("system"), "<|eot_id|>", Header("user"), "<|eot_id|>", Header("assistant"), "<|eot_id|>"),
        .. Mistral("[INST] ", " [/INST]", " ", "</s>"),
        .. Mistral("[INST] ", " [/INST]", "", "</s>"),
        .. Mistral(" [INST] ", " [/INST]", " ", "</s>"),
        .. Mistral("[INST] ", "[/INST]", " ", "</s>"),
        .. Mistral("[INST]", "[/INST]", "", "</s>"),
        new("Mistral", OllamaSystem.Turn, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "", "</s>"),
        new("Mistral", OllamaSystem.Turn, "[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]", "[INST] ", "[/INST]", " ", "</s>"),
        new("Gemma", OllamaSystem.InFirst, "", "\n\n", "<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n", "<end_of_turn>\n"),
        new("Phi", OllamaSystem.Turn, "<|system|>\n", "<|end|>\n", "<|user|>\n", "<|end|>\n", "<|assistant|>\n", "<|end|>\n"),
        new("Phi", OllamaSystem.Turn, "<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>"),
        new("Phi", OllamaSystem.Turn, "<|im_start|>system<|im_sep|>", "<|im_end|>", "<|im_start|>user<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>", "<|im_end|>"),
    ];

    /// <summary>A conversation in this format, ready for the next answer.</summary>
    /// <param name="messages">Messages of the system, the user and the assistant.</param>
    internal string Render(JsonArray messages)
    {
        var system = messages.FirstOrDefault(static m => m!["role"]!.ToString() == "system")?["content"]!.ToString();
        var users = messages.Count(static m => m!["role"]!.ToString() == "user");
        var (text, user) = (new StringBuilder(System == OllamaSystem.Turn && system is not null ? SystemOpen + system + SystemClose : ""), 0);
        foreach (var message in messages)
        {
            var content = message!["content"]!.ToString();
            _ = message["role"]!.ToString() switch
            {
                "user" when system is not null && ++user == (System == OllamaSystem.InFirst ? 1 : System == OllamaSystem.InLast ? users : 0) =>
                    text.Append(UserOpen).Append(SystemOpen).Append(system).Append(SystemClose).Append(content).Append(UserClose),
                "user" => text.Append(UserOpen).Append(content).Append(UserClose),
                "assistant" => text.Append(AssistantOpen).Append(content).Append(AssistantClose),
                _ => text,
            };
        }

        return text.Append(Ask).ToString();
    }

    /// <summary>The template of Ollama. An answer that is the last message is left open, to be continued.</summary>
    internal string Template()
    {
        // Ollama gives all messages, a system message among them as the first, and its text once more as System.
        var user = System switch
        {
            OllamaSystem.Turn => $"{UserOpen}{{{{ .Content }}}}{UserClose}",
            OllamaSystem.InFirst => $"{{{{ if not (and $.System (eq $i 1)) }}}}{UserOpen}{{{{ end }}}}{{{{ .Content }}}}{UserClose}",
            _ => $"{UserOpen}{{{{ if and $last $.System }}}}{SystemOpen}{{{{ $.System }}}}{SystemClose}{{{{ end }}}}{{{{ .Content }}}}{UserClose}",
        };
        var system = System switch
        {
            OllamaSystem.Turn => $"{SystemOpen}{{{{ .Content }}}}{SystemClose}",
            OllamaSystem.InFirst => $"{UserOpen}{SystemOpen}{{{{ .Content }}}}{SystemClose}",
            _ => "",
        };
        return "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            + $"{{{{ if eq .Role \"system\" }}}}{system}{{{{ else if eq .Role \"user\" }}}}{user}"
            + $"{{{{ else if eq .Role \"assistant\" }}}}{AssistantOpen}{{{{ .Content }}}}{{{{ if not $last }}}}{AssistantClose}{{{{ end }}}}{{{{ end }}}}"
            + $"{{{{ if and $last (ne .Role \"assistant\") }}}}{Ask}{{{{ end }}}}{{{{ end }}}}";
    }

    private static string Header(string role) => $"<|start_header_id|>{role}<|end_header_id|>\n\n";

    private static OllamaFormat[] Mistral(string open, string close, string answer, string end) =>
    [
        new("Mistral", OllamaSystem.InFirst, "", "\n\n", open, close, answer, end),
        new("Mistral", OllamaSystem.InLast, "", "\n\n", open, close, answer, end),
    ];
}
