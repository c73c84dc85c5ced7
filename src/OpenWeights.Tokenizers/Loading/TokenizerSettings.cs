namespace OpenWeights.Tokenizers;

/// <summary>
/// Settings from the files beside a tokenizer: special tokens by name, chat templates, and the options that decide how files without a
/// tokenizer.json are read.
/// </summary>
internal sealed record TokenizerSettings
{
    /// <summary>Special tokens by name.</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; init; } = new Dictionary<string, string>();

    /// <summary>Chat templates by name.</summary>
    public IReadOnlyDictionary<string, string> ChatTemplates { get; init; } = new Dictionary<string, string>();

    /// <summary>Where they are from, for messages.</summary>
    public string ChatTemplateName { get; init; } = "the chat template";

    /// <summary>The file's <c>added_tokens_decoder</c>.</summary>
    public IReadOnlyList<AddedToken> AddedTokens { get; init; } = [];

    /// <summary><c>tokenizer_class</c> without "Fast", or null.</summary>
    public string? TokenizerClass { get; init; }

    /// <summary><c>model_type</c> of config.json, or null.</summary>
    public string? ModelType { get; init; }

    /// <summary><c>add_bos_token</c></summary>
    public bool? AddBosToken { get; init; }

    /// <summary><c>add_eos_token</c></summary>
    public bool? AddEosToken { get; init; }

    /// <summary><c>add_prefix_space</c></summary>
    public bool? AddPrefixSpace { get; init; }

    /// <summary><c>legacy</c></summary>
    public bool? Legacy { get; init; }

    /// <summary><c>extra_ids</c></summary>
    public int? ExtraIds { get; init; }

    /// <summary>The file that the settings are from, for messages.</summary>
    public string Source { get; init; } = "";

    public string? BosToken => SpecialTokens.GetValueOrDefault("bos_token");

    public string? EosToken => SpecialTokens.GetValueOrDefault("eos_token");

    public string? PadToken => SpecialTokens.GetValueOrDefault("pad_token");

    public string? UnknownToken => SpecialTokens.GetValueOrDefault("unk_token");
}
