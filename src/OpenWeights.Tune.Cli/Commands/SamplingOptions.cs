using System.CommandLine;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The options of commands that generate text.</summary>
internal sealed class SamplingOptions
{
    private readonly Option<int> _maxNewTokens;
    private readonly Option<double> _temperature;
    private readonly Option<double> _topP = CommonOptions.Number("--top-p", "Draw only from the likeliest tokens that together have this probability.", 1.0, 1e-9, 1.0);
    private readonly Option<int> _topK = CommonOptions.Number("--top-k", "Draw only from this many of the likeliest tokens; 0 for all.", 0, 0);
    private readonly Option<double> _minP = CommonOptions.Number("--min-p", "Draw only from tokens that are at least this share as likely as the likeliest.", 0.0, 0.0, 1.0);
    private readonly Option<double> _repetitionPenalty = CommonOptions.Number("--repetition-penalty", "Above 1 makes tokens that have already appeared less likely.", 1.0, 1e-3);
    private readonly Option<long> _seed = new("--seed") { Description = "The seed of the random draws.", DefaultValueFactory = static _ => 42 };
    private readonly Option<string[]> _stop = new("--stop") { Description = "A text that ends the answer; may be given several times.", HelpName = "TEXT" };

    internal SamplingOptions(int maxNewTokens, double temperature)
    {
        _maxNewTokens = CommonOptions.Number("--max-new-tokens", "The most tokens to generate for an answer.", maxNewTokens, 1);
        _temperature = CommonOptions.Number("--temperature", "How random the draw is; 0 always takes the likeliest token.", temperature, 0.0);
    }

    internal void AddTo(Command command)
    {
        foreach (var option in new Option[] { _maxNewTokens, _temperature, _topP, _topK, _minP, _repetitionPenalty, _seed, _stop })
        {
            command.Options.Add(option);
        }
    }

    internal GenerationOptions Read(ParseResult arguments, IReadOnlyList<int> endTokens) => new()
    {
        MaxNewTokens = arguments.GetValue(_maxNewTokens),
        Temperature = arguments.GetValue(_temperature),
        TopP = arguments.GetValue(_topP),
        TopK = arguments.GetValue(_topK),
        MinP = arguments.GetValue(_minP),
        RepetitionPenalty = arguments.GetValue(_repetitionPenalty),
        Seed = arguments.GetValue(_seed),
        EndTokens = endTokens,
    };

    internal string[] Stops(ParseResult arguments) => arguments.GetValue(_stop) ?? [];
}
