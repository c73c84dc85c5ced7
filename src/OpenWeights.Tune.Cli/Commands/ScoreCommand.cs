using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt score.</summary>
internal static class ScoreCommand
{
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapter = CommonOptions.Adapters();
    private static readonly Option<bool> s_anyBase = CommonOptions.AnyBase();
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string> s_input = new("--input") { Description = "JSON lines with \"text\" or \"input_ids\".", HelpName = "FILE.jsonl", Required = true };
    private static readonly Option<string?> s_logits = new("--logits") { Description = "Also write each line's logits, [tokens, vocabulary], as a tensor named by its number from 0.", HelpName = "FILE.safetensors" };
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    private static readonly Option<bool> s_json = CommonOptions.JsonAnyway();

    internal static Command Create()
    {
        var command = new Command("score", "Gives the log-probability of each token of texts.") { s_model, s_adapter, s_input, s_logits, s_device, s_dtype, s_quantization, s_anyBase, s_json };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, arguments.GetValue(s_adapter) ?? [], arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!, arguments.GetValue(s_quantization), arguments.GetValue(s_anyBase));
        using var nothing = no_grad();
        using var kept = NewDisposeScope();
        var wanted = arguments.GetValue(s_logits);
        var tensors = new List<TensorToWrite>();
        foreach (var row in DataFile.Read(arguments.GetValue(s_input)!))
        {
            Signals.Stop.ThrowIfCancellationRequested();
            var ids = row.Json.ContainsKey("input_ids") ? row.Ints("input_ids") : [.. session.Tokenizer.EncodeOnce(row.Text("text")).Select(static s => s.Id)];
            using var scope = NewDisposeScope();
            var logits = Logits(session.Model, ids, row);
            var scores = LogProbabilities(logits, ids);
            JsonLines.Write(new { input_ids = ids, logprobs = new double?[] { null }.Concat(scores.Select(static s => (double?)s)), sum_logprob = scores.Sum() });
            if (wanted is not null)
            {
                tensors.Add(TensorFiles.ToWrite(tensors.Count.ToString(CultureInfo.InvariantCulture), scope.MoveToOuter(logits)));
            }
        }

        if (wanted is not null)
        {
            SafetensorsWriter.Write(wanted, tensors);
        }

        return ExitCode.Success;
    }

    private static Tensor Logits(CausalLanguageModel model, int[] ids, DataRow row)
    {
        if (ids.Length == 0)
        {
            throw row.Error("there are no tokens to score.");
        }

        if (Array.Find(ids, id => id < 0 || id >= model.Config.VocabularySize) is not 0 and var bad)
        {
            throw row.Error($"token id {bad} is not one of the model's {model.Config.VocabularySize} tokens.");
        }

        var room = ModelRoom.Of(model.Config);
        if (ids.Length > room.Tokens)
        {
            Console.Error.WriteLine($"warning: {row.Place}: {ids.Length} tokens are more than the model was made for ({room.Tokens}, by {room.Because}); its scores beyond them mean little.");
        }

        var input = tensor(Array.ConvertAll(ids, static i => (long)i), [1, ids.Length], device: model.Device);
        return model.Logits(model.call(ModelInput.Rows(input))).squeeze(0).cpu();
    }

    private static double[] LogProbabilities(Tensor logits, int[] ids)
    {
        if (ids.Length == 1)
        {
            return [];
        }

        using var scope = NewDisposeScope();
        var next = tensor(Array.ConvertAll(ids[1..], static i => (long)i), [ids.Length - 1, 1]);
        var scores = logits.narrow(0, 0, ids.Length - 1).to(float64).log_softmax(-1).gather(1, next).contiguous();
        return MemoryMarshal.Cast<byte, double>(scores.bytes).ToArray();
    }
}
