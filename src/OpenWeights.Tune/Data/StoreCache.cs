using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Data;

/// <summary>
/// Cache of tokenized rows on disk, keyed by a hash of everything they depend on: the bytes of the data, the tokenizer with its chat
/// template, and the settings. Files are created atomically, so that several runs can share the folder.
/// </summary>
internal sealed class StoreCache
{
    // Incremented whenever the same files would give other rows or another file layout.
    private const string Version = "rows 7";
    private const long MinBytes = 8 << 20;
    private static readonly TimeSpan s_unused = TimeSpan.FromDays(60);
    private static readonly TimeSpan s_forgotten = TimeSpan.FromDays(7);
    private static readonly string[] s_tokenizerFiles = ["tokenizer*", "*.jinja", "chat_template*", "special_tokens_map.json", "added_tokens.json", "generation_config.json", "config.json", "vocab.*", "merges.txt"];

    private readonly DataSection _config;
    private readonly RowTokenizer _tokenizer;
    private readonly int _vocabularySize;
    private readonly bool _promptsAlone;
    private readonly Lazy<string> _tokenizerHash;

    internal StoreCache(DataSection config, RowTokenizer tokenizer, int vocabularySize, bool promptsAlone = false)
    {
        (_config, _tokenizer, _vocabularySize, _promptsAlone) = (config, tokenizer, vocabularySize, promptsAlone);
        _tokenizerHash = new Lazy<string>(() => Hash(s_tokenizerFiles.SelectMany(p => Directory.EnumerateFiles(tokenizer.Folder!, p)).Distinct().Order(StringComparer.Ordinal)));
    }

    /// <summary>The default folder.</summary>
    internal static string DefaultFolder
    {
        get
        {
            var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } named ? named
                : OperatingSystem.IsWindows() ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
                : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), OperatingSystem.IsMacOS() ? "Library/Caches" : ".cache");
            return Path.Combine(cache, "openweights-tune", "rows");
        }
    }

    /// <summary>The tokenized rows of a data set, from the cache or newly created.</summary>
    /// <returns>The rows, and whether they came from the cache.</returns>
    /// <exception cref="InvalidDataException">A row is invalid and that is an error, or there are no rows.</exception>
    /// <exception cref="IOException">A file cannot be read or written.</exception>
    internal (TokenStore Store, string? Cached) Get(DataSource source)
    {
        var files = source is { Query: null, Rows: null } ? DataFile.Files(source) : [];
        if (source.Query is not null || source.Rows is not null || OwnClass.Is(source.Format) || _tokenizer.Folder is null || _config.Cache == "off" || (_config.Cache == "auto" && files.Sum(static f => FileLinks.File(f).Length) < MinBytes))
        {
            return (Temporary(Tokenizer(source)), null);
        }

        var folder = _config.CacheDir ?? DefaultFolder;
        var path = Path.Combine(folder, Key(source, files) + ".rows");
        if (Existing(path) is { } existing)
        {
            File.SetLastAccessTimeUtc(path, DateTime.UtcNow);
            return (existing, $"from {path}");
        }

        _ = Directory.CreateDirectory(folder);
        RemoveOld(folder, "*.rows", s_unused);
        try
        {
            AtomicFile.Write(path, stream => Tokenizer(source).Write(stream));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException && Existing(path) is not null)
        {
            // Another run has created the same file and has it open; Windows does not allow replacing an open file.
        }

        return (Existing(path) ?? throw new IOException($"{path}: the token rows that were just written cannot be read."), $"kept in {path}");
    }

    private SourceTokenizer Tokenizer(DataSource source) => new(source, _tokenizer, _vocabularySize, _config.BadRows == "skip", _promptsAlone);

    /// <summary>The tokenized rows of a data set in a temporary file that is deleted with the process.</summary>
    internal static TokenStore Temporary(SourceTokenizer rows)
    {
        // Windows may keep a file that was still mapped when it was closed; a killed run leaves its file on every system.
        RemoveOld(Path.GetTempPath(), "owt-*.rows", s_forgotten);
        var path = Path.Combine(Path.GetTempPath(), $"owt-{Guid.NewGuid():N}.rows");
        using var file = new FileStream(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, 1 << 18, FileOptions.DeleteOnClose);
        rows.Write(file);
        file.Flush();
        return TokenStore.Open(file)!;
    }

    private static TokenStore? Existing(string path)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 0);
            return TokenStore.Open(file);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return null;
        }
    }

    private string Key(DataSource source, IReadOnlyList<string> files)
    {
        string Map(IReadOnlyDictionary<string, string> map) => string.Join(',', map.OrderBy(static p => p.Key, StringComparer.Ordinal).Select(static p => $"{p.Key}={p.Value}"));
        var parts = new List<string>
        {
            Version, _tokenizerHash.Value, _tokenizer.TrainOn, _tokenizer.Kind is RowKind.Classified or RowKind.Related ? $"{_tokenizer.Kind} {_tokenizer.QueryPrompt}\0{_tokenizer.DocumentPrompt}" : "", source.Format, source.TextBy, Map(source.Fields), Map(source.Roles), _config.BadRows,
            _promptsAlone ? "prompts" : "", source.Separator is { } separator ? $"separator {separator}" : "", source.Delimiter ?? "",
            source.Limit?.ToString(CultureInfo.InvariantCulture) ?? "all", _vocabularySize.ToString(CultureInfo.InvariantCulture),
        };

        foreach (var template in _tokenizer.HasTokenizer ? new[] { _tokenizer.Tokenizer.ChatTemplateText, _tokenizer.Tokenizer.ChatTemplateFor(withTools: true) } : [])
        {
            // A template that writes the date gives other rows tomorrow.
            parts.Add(template?.Contains("strftime_now", StringComparison.Ordinal) == true ? $"{template}{DateTime.Now:yyyy-MM-dd}" : template ?? "");
        }

        parts.AddRange(files);
        parts.Add(Hash(files));
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', parts))))[..40];
    }

    private static string Hash(IEnumerable<string> files)
    {
        using var all = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in files)
        {
            using var stream = File.OpenRead(file);
            all.AppendData(SHA256.HashData(stream));
        }

        return Convert.ToHexStringLower(all.GetHashAndReset());
    }

    // Entries for changed data or tokenizers are not used again: delete what has not been used for long.
    private static void RemoveOld(string folder, string pattern, TimeSpan age)
    {
        foreach (var file in new DirectoryInfo(folder).EnumerateFiles(pattern).Where(f => DateTime.UtcNow - f.LastAccessTimeUtc > age && DateTime.UtcNow - f.LastWriteTimeUtc > age))
        {
            try
            {
                file.Delete();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Another run has it open, or deleted it at the same time.
            }
        }
    }
}
