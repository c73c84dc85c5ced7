using System.CommandLine;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Options of commands that generate text.</summary>
internal sealed class SamplingOptions
{
    private readonly Option<int> _maxNewTokens;
    private readonly Option<double> _temperature;
    private readonly Option<double> _topP = CommonOptions.Number("--top-p", "Nucleus sampling: sample from the smallest set of tokens with this total probability.", 1.0, 1e-9, 1.0);
    private readonly Option<int> _topK = CommonOptions.Number("--top-k", "Sample only from this many of the most likely tokens; 0 for all.", 0, 0);
    private readonly Option<double> _minP = CommonOptions.Number("--min-p", "Sample only from tokens at least this fraction as likely as the most likely one.", 0.0, 0.0, 1.0);
    private readonly Option<double> _repetitionPenalty = CommonOptions.Number("--repetition-penalty", "Repetition penalty; above 1 makes tokens that have already appeared less likely.", 1.0, 1e-3);
    private readonly Option<long> _seed = new("--seed") { Description = "Random seed of the sampling.", DefaultValueFactory = static _ => 42 };
    private readonly Option<string[]> _stop = new("--stop") { Description = "Stop sequence that ends the answer; may be repeated.", HelpName = "TEXT" };

    private readonly Option<bool> _showReasoning = new("--show-reasoning") { Description = "Show what the model reasons before an answer: between tags such as <think>, or in gpt-oss's analysis channel." };

    internal SamplingOptions(int maxNewTokens, double temperature)
    {
        _maxNewTokens = CommonOptions.Number("--max-new-tokens", "Maximum number of tokens to generate.", maxNewTokens, 1);
        _temperature = CommonOptions.Number("--temperature", "Sampling temperature; 0 for greedy decoding.", temperature, 0.0);
    }

    internal void AddTo(Command command)
    {
        foreach (var option in new Option[] { _maxNewTokens, _temperature, _topP, _topK, _minP, _repetitionPenalty, _seed, _stop, _showReasoning })
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

    internal bool ShowsReasoning(ParseResult arguments) => arguments.GetValue(_showReasoning);

    internal string[] Stops(ParseResult arguments) => arguments.GetValue(_stop) ?? [];
}
