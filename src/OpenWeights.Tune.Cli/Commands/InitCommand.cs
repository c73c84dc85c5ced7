using System.CommandLine;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt init.</summary>
internal static class InitCommand
{
    private static readonly ModelShape s_default = new();
    private static readonly Option<string> s_family = new("--family") { Description = "The model's family, such as llama or qwen3; docs/families.md lists them.", HelpName = "NAME", DefaultValueFactory = static _ => "llama" };
    private static readonly Option<int> s_hidden = CommonOptions.Number("--hidden-size", "Width of the residual stream.", s_default.HiddenSize, 1);
    private static readonly Option<int> s_intermediate = CommonOptions.Number("--intermediate-size", "Width of the feed-forward hidden layer.", s_default.IntermediateSize, 1);
    private static readonly Option<int> s_layers = CommonOptions.Number("--layers", "Number of layers.", s_default.Layers, 1);
    private static readonly Option<int> s_heads = CommonOptions.Number("--heads", "Number of query heads.", s_default.Heads, 1);
    private static readonly Option<int> s_keyValueHeads = CommonOptions.Number("--kv-heads", "Number of key/value heads.", s_default.KeyValueHeads, 1);
    private static readonly Option<int?> s_vocabulary = new("--vocab-size") { Description = $"Vocabulary size; by default the tokenizer's, or {s_default.VocabularySize}." };
    private static readonly Option<int> s_positions = CommonOptions.Number("--max-positions", "Maximum context length, in tokens.", s_default.MaxPositions, 1);
    private static readonly Option<double> s_theta = new("--rope-theta") { Description = "Base of the rotary frequencies.", DefaultValueFactory = static _ => s_default.RopeTheta };
    private static readonly Option<bool> s_untied = new("--untied") { Description = "Do not tie the output head to the embedding." };
    private static readonly Option<string?> s_tokenizer = new("--tokenizer") { Description = "A folder or a model on the Hub whose tokenizer files are copied.", HelpName = "DIR" };
    private static readonly Option<string[]> s_tokenizerData = new("--tokenizer-data") { Description = "JSON lines to train a new byte-level BPE tokenizer of --vocab-size tokens on.", HelpName = "FILE" };
    private static readonly Option<string> s_dtype = new("--dtype") { Description = "Data type of the weights: float32, bfloat16 or float16.", DefaultValueFactory = static _ => "float32" };
    private static readonly Option<long> s_seed = new("--seed") { Description = "Random seed of the weights.", DefaultValueFactory = static _ => 42 };
    private static readonly Option<string> s_output = new("--output") { Description = "Folder to write; it must not exist.", HelpName = "DIR", Required = true };

    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        _ = s_family.OnlyFrom([.. FamilyRegistry.All.Select(static f => f.ModelType)]);
        _ = s_dtype.OnlyFrom("float32", "bfloat16", "float16");
        var command = new Command("init", "Creates a model folder with random weights, for training from scratch.")
        {
            s_family, s_hidden, s_intermediate, s_layers, s_heads, s_keyValueHeads, s_vocabulary, s_positions, s_theta, s_untied, s_tokenizer, s_tokenizerData, s_dtype, s_seed, s_output, s_json,
        };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_tokenizer) is not null && result.GetValue(s_tokenizerData) is { Length: > 0 })
            {
                result.AddError("give one of --tokenizer and --tokenizer-data.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var output = CommonOptions.NewOutput(arguments.GetValue(s_output)!);
        var copied = arguments.GetValue(s_tokenizer) is { } given ? ModelPath.ResolveTokenizer(given, new DownloadConsole(), Signals.Stop) : null;
        var data = arguments.GetValue(s_tokenizerData) ?? [];
        var tokenizer = copied is null ? null : Tokenizer.Load(copied);
        var shape = new ModelShape
        {
            HiddenSize = arguments.GetValue(s_hidden),
            IntermediateSize = arguments.GetValue(s_intermediate),
            Layers = arguments.GetValue(s_layers),
            Heads = arguments.GetValue(s_heads),
            KeyValueHeads = arguments.GetValue(s_keyValueHeads),
            VocabularySize = arguments.GetValue(s_vocabulary) ?? tokenizer?.VocabularySize ?? s_default.VocabularySize,
            MaxPositions = arguments.GetValue(s_positions),
            RopeTheta = arguments.GetValue(s_theta),
            TiedEmbeddings = !arguments.GetValue(s_untied),
            BosToken = tokenizer?.BosToken,
            EosToken = tokenizer?.EosToken ?? (data.Length > 0 ? NewTokenizer.EosToken : null),
        };
        Action<string>? addTokenizer = copied is not null ? folder => CopyTokenizer(copied, folder)
            : data.Length > 0 ? folder => NewTokenizer.Write(data, shape.VocabularySize, shape.MaxPositions, folder)
            : null;
        var parameters = NewModel.Write(arguments.GetValue(s_family)!, shape, arguments.GetValue(s_seed), Devices.DType(arguments.GetValue(s_dtype)!) ?? ScalarType.Float32, output, addTokenizer);
        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new { family = arguments.GetValue(s_family), parameters, output });
            return ExitCode.Success;
        }

        Console.Out.WriteLine($"a model of the family {arguments.GetValue(s_family)} with {Amount.Count(parameters)} random parameters written to {output}");
        return ExitCode.Success;
    }

    private static void CopyTokenizer(string from, string to)
    {
        foreach (var name in new[] { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja" })
        {
            if (File.Exists(Path.Combine(from, name)))
            {
                File.Copy(Path.Combine(from, name), Path.Combine(to, name));
            }
        }
    }
}
