namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>The formats of tool calls.</summary>
internal static class ToolCallFormats
{
    // Those that share a mark with others stand before them.
    private static readonly IToolCallFormat[] s_all =
    [
        new HarmonyFormat(),
        new KimiFormat(),
        new InvokeFormat("deepseek-v3.2", "｜DSML｜", "｜DSML｜function_calls", saysStrings: true),
        new InvokeFormat("deepseek-v4", "｜DSML｜", "｜DSML｜tool_calls", saysStrings: true),
        new InvokeFormat("minimax-m2", "", "minimax:tool_call", saysStrings: false),
        new DeepSeekFormat(hasBlocks: true),
        new DeepSeekFormat(hasBlocks: false),
        new MistralFormat(isNewer: true),
        new MistralFormat(isNewer: false),
        new GlmFormat(),
        new QwenCoderFormat("seed-oss", "<seed:tool_call>", "</seed:tool_call>", onLines: false),
        new QwenCoderFormat("qwen3-coder", "<tool_call>", "</tool_call>", onLines: true),
        new JsonListFormat("command-r7b", "<|START_ACTION|>", "<|END_ACTION|>") { NameKey = "tool_name", ArgumentsKey = "parameters" },
        new JsonListFormat("granite", "<|tool_call|>", ""),
        new JsonListFormat("nemotron", "<TOOLCALL>", "</TOOLCALL>"),
        new JsonListFormat("apriel", "<tool_calls>", "</tool_calls>") { Sign = "<tool_calls>[" },
        new JsonListFormat("minimax-m1", "<tool_calls>", "</tool_calls>") { OnLines = true },
        new JsonListFormat("firefunction", "functools", ""),
        new HermesFormat(),
        new FunctionaryFormat(),
        new LlamaFormat(),
    ];

    /// <summary>The format of a chat template, by the marks that it has.</summary>
    /// <param name="template">The template's text.</param>
    /// <returns>The format; null if the template knows no tools, or writes calls in a way that is not read.</returns>
    public static IToolCallFormat? Of(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        return template.Contains("tool", StringComparison.Ordinal) ? Array.Find(s_all, f => f.IsOf(template)) : null;
    }

    /// <summary>A format by its name; null if there is none.</summary>
    /// <param name="name">The name.</param>
    public static IToolCallFormat? Named(string name) => Array.Find(s_all, f => f.Name == name);
}
