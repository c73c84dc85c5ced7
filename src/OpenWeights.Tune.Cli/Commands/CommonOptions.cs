using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Options shared by several commands, so that they are the same everywhere.</summary>
internal static class CommonOptions
{
    internal static Option<string> Model() => new("--model") { Description = "Base model: its folder, a GGUF file, a run folder (including its adapter), or its name on the Hub.", HelpName = "DIR", Required = true };

    /// <summary>A tokenizer and its chat template, also from a model.</summary>
    internal static Option<string?> Tokenizer() => new("--model", "--tokenizer") { Description = "Tokenizer and chat template: a model folder, a GGUF file, a run folder, a name on the Hub (weights are not downloaded), or a tokenizer file.", HelpName = "DIR_OR_FILE" };

    internal static Option<string[]> Adapters(string description = "An adapter: a PEFT folder, a run folder or a checkpoint; DIR=0.7 scales it, and several are summed.")
    {
        var option = new Option<string[]>("--adapter") { Description = description, HelpName = "DIR" };
        option.Validators.Add(static result =>
        {
            var folders = (result.GetValueOrDefault<string[]>() ?? []).Select(static t => AdapterChoice.Parse(t).Folder).ToList();
            if (folders.Count != folders.Distinct().Count())
            {
                result.AddError("--adapter: the same folder is given twice; give it once with the sum of its weights.");
            }
        });
        return option;
    }

    internal static Option<string?> Quantization()
    {
        var option = new Option<string?>("--quantization") { Description = "Quantize the linear layers: none, nf4 or int8. An adapter works best with the quantization it was trained with. Left out, the weights of a GGUF file stay packed as they are on a CPU; none unpacks them." };
        _ = option.OnlyFrom("none", "nf4", "int8");
        return option;
    }

    /// <summary>The full path of --output. Existing files are never overwritten.</summary>
    /// <exception cref="ConfigException">The path exists.</exception>
    internal static string NewOutput(string output, string option = "--output") => !Path.Exists(output)
        ? Path.GetFullPath(output)
        : throw new ConfigException([new ConfigProblem("", option, $"{output} already exists; choose another {option}, or remove it.")]);

    /// <summary>The --json option of a command that always prints JSON.</summary>
    internal static Option<bool> JsonAnyway() => new("--json") { Description = "Print JSON (always on for this command)." };

    internal static Option<bool> AnyBase() => new("--any-base") { Description = "Allow an adapter that was trained on a base model with different weights." };

    internal static Option<bool> Json() => new("--json") { Description = "Print JSON instead of text." };

    internal static Option<string> Device(bool isOne = true)
    {
        var option = new Option<string>("--device") { Description = isOne ? "Device: auto, cpu, cuda or cuda:N." : "Device: auto, cpu, cuda or cuda:N; or several GPUs over which the layers are spread: cuda:0,cuda:1.", DefaultValueFactory = static _ => "auto" };
        option.Validators.Add(result =>
        {
            if ((isOne ? Devices.NameProblem(result.GetValueOrDefault<string>() ?? "") : Devices.NameProblem((result.GetValueOrDefault<string>() ?? "").Split(','))) is { } problem)
            {
                result.AddError($"--device: {problem}");
            }
        });
        return option;
    }

    /// <summary>A number within bounds.</summary>
    internal static Option<T> Number<T>(string name, string description, T fallback, T least, T? most = null)
        where T : struct, INumber<T>
    {
        var option = new Option<T>(name) { Description = description, DefaultValueFactory = _ => fallback };
        option.Validators.Add(result => RequireBounds(result, static r => r.GetValueOrDefault<T>(), least, most));
        return option;
    }

    /// <summary>An optional number with a lower bound.</summary>
    internal static Option<T?> Number<T>(string name, string description, T least)
        where T : struct, INumber<T>
    {
        var option = new Option<T?>(name) { Description = description };
        option.Validators.Add(result => RequireBounds(result, static r => r.GetValueOrDefault<T?>(), least, null));
        return option;
    }

    private static void RequireBounds<T>(OptionResult result, Func<OptionResult, T?> get, T least, T? most)
        where T : struct, INumber<T>
    {
        if (AreNumbers<T>(result) && get(result) is { } value && (value < least || value > (most ?? value) || T.IsNaN(value)))
        {
            result.AddError($"{result.Option.Name} must be {SettingCheck.Bounds(double.CreateChecked(least), most is { } bound ? double.CreateChecked(bound) : double.PositiveInfinity)}.");
        }
    }

    /// <summary>
    /// Checks that the given values are numbers; the parser checks them only after the validators. Reports an error otherwise.
    /// </summary>
    internal static bool AreNumbers<T>(OptionResult result)
        where T : struct, INumber<T>
    {
        if (result.Tokens.FirstOrDefault(static token => !T.TryParse(token.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out _)) is not { } wrong)
        {
            return true;
        }

        var whole = T.IsInteger(T.One / (T.One + T.One));
        result.AddError($"{result.Option.Name}: '{wrong.Value}' is not a {(whole ? "whole number" : "number")}{(!whole && wrong.Value.Contains(',', StringComparison.Ordinal) ? "; decimals are written with a point" : "")}.");
        return false;
    }

    internal static Option<string> DType() => DType("auto (the checkpoint's), float32, bfloat16 or float16", "auto", "float32", "bfloat16", "float16");

    /// <summary>The --dtype option of a command whose results are exact numbers.</summary>
    internal static Option<string> ExactDType() =>
        DType("auto (float64 on a CPU whose memory has room for it, otherwise the checkpoint's), float64, float32, bfloat16 or float16", "auto", "float64", "float32", "bfloat16", "float16");

    private static Option<string> DType(string description, params string[] choices)
    {
        var option = new Option<string>("--dtype") { Description = $"Data type of the computation: {description}.", DefaultValueFactory = static _ => "auto" };
        _ = option.OnlyFrom(choices);
        return option;
    }
}
