using System.Text;
using BenchmarkDotNet.Attributes;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>Text to tokens, by the quickstart's tokenizer; torch has nothing of the kind.</summary>
public class TokenizePart : IRated
{
    private Tokenizer _tokenizer = null!;
    private string _text = "";

    /// <inheritdoc/>
    double IRated.Work => Encoding.UTF8.GetByteCount(Text);

    /// <inheritdoc/>
    string IRated.Unit => "GB/s";

    internal string Text => _text.Length > 0 ? _text : (_text = File.ReadAllText(Path.Combine(Folder, "train.jsonl")));

    private static string Folder
    {
        get
        {
            var folder = AppContext.BaseDirectory;
            while (!Directory.Exists(Path.Combine(folder, "datasets", "quickstart")))
            {
                folder = Path.GetDirectoryName(folder) ?? throw new DirectoryNotFoundException("datasets/quickstart is in no folder above the program's");
            }

            return Path.Combine(folder, "datasets", "quickstart");
        }
    }

    /// <summary>Reads the tokenizer.</summary>
    [GlobalSetup]
    public void Setup() => _tokenizer = Tokenizer.Load(Path.Combine(Folder, "base"));

    /// <summary>The text's tokens.</summary>
    [Benchmark(Description = "owt")]
    public int Library() => Encode().Length;

    internal int[] Encode() => _tokenizer.Encode(Text, addSpecialTokens: false);

    internal string Decode(int[] ids) => _tokenizer.Decode(ids, skipSpecialTokens: false);
}
