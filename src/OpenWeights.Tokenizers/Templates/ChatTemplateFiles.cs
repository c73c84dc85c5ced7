namespace OpenWeights.Tokenizers.Templates;

/// <summary>
/// The chat templates and the special tokens that a model's folder holds. The tokenizer itself need not be there:
/// tokenizer_config.json, or a chat_template file, is enough to render conversations.
/// </summary>
public sealed class ChatTemplateFiles
{
    private static readonly string[] Beside = ["tokenizer_config.json", "special_tokens_map.json", "chat_template.json", "chat_template.jinja"];

    private readonly IReadOnlyDictionary<string, string> templates;

    private ChatTemplateFiles(IReadOnlyDictionary<string, string> templates, IReadOnlyDictionary<string, string> specialTokens)
    {
        this.templates = templates;
        SpecialTokens = specialTokens;
    }

    /// <summary>Special tokens by the names of transformers: <c>bos_token</c>, <c>eos_token</c>, ...</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; }

    /// <summary>Reads a folder, or the folder of one of its files.</summary>
    /// <param name="folderOrFile">A folder; or a tokenizer, a tokenizer_config.json or a chat_template file.</param>
    /// <exception cref="FileNotFoundException">There is no such file, or nothing to read in the folder.</exception>
    /// <exception cref="InvalidDataException">A file is malformed; the message names the file and the key.</exception>
    public static ChatTemplateFiles Load(string folderOrFile)
    {
        ArgumentException.ThrowIfNullOrEmpty(folderOrFile);
        if (FolderWithoutTokenizer(folderOrFile) is not { } folder)
        {
            var tokenizer = Tokenizer.Load(folderOrFile);
            return new ChatTemplateFiles(tokenizer.ChatTemplates, tokenizer.SpecialTokens);
        }

        var settings = SettingsReader.Read(folder);
        return new ChatTemplateFiles(settings.ChatTemplates, settings.SpecialTokens);
    }

    /// <summary>The template for a conversation, chosen as transformers does: with tools the one named "tool_use" if there is one, else the one named "default"; or null.</summary>
    /// <param name="withTools">Whether the conversation has a list of tools.</param>
    public string? TextFor(bool withTools) => Choose(templates, withTools);

    /// <summary>The folder, if it has to be read without its tokenizer; null if there is one to load, or nothing at all.</summary>
    private static string? FolderWithoutTokenizer(string path)
    {
        if (Directory.Exists(path))
        {
            return !TokenizerLoader.HasTokenizer(path) && Array.Exists(Beside, name => File.Exists(Path.Combine(path, name))) ? path : null;
        }

        return File.Exists(path) && Beside.Contains(Path.GetFileName(path)) ? Path.GetDirectoryName(Path.GetFullPath(path)) : null;
    }

    internal static string? Choose(IReadOnlyDictionary<string, string> templates, bool withTools) =>
        withTools && templates.TryGetValue("tool_use", out var text) ? text : templates.GetValueOrDefault("default");
}
